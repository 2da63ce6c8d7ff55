// What ZeroDev's SDK does with session keys: issues one, and uses one. And the account in whose name it signs.
import { signerToEcdsaValidator } from "@zerodev/ecdsa-validator";
import { deserializePermissionAccount, serializePermissionAccount, toPermissionValidator } from "@zerodev/permissions";
import {
  CallPolicyVersion,
  ParamCondition,
  toCallPolicy,
  toSignatureCallerPolicy,
  toTimestampPolicy,
} from "@zerodev/permissions/policies";
import { toECDSASigner } from "@zerodev/permissions/signers";
import { addressToEmptyAccount, createKernelAccount, createKernelAccountClient } from "@zerodev/sdk";
import { KERNEL_V3_1, getEntryPoint } from "@zerodev/sdk/constants";
import { http, pad, toHex } from "viem";
import { TOKEN } from "./lib.mjs";

export const entryPoint = getEntryPoint("0.7");

const rule = (condition, offset, value) => ({ condition, offset, params: [pad(value, { size: 32 })] });

/** Rules for the argument at an offset behind the selector. */
export const equal = (offset, value) => rule(ParamCondition.EQUAL, offset, value);
export const atMost = (offset, most) => rule(ParamCondition.LESS_THAN_OR_EQUAL, offset, toHex(most));

/** An owner's Kernel account. `address` says where it is, if the chain cannot; `regular` is a session key's plugin. */
export async function kernel(client, owner, { index = 0n, kernelVersion = KERNEL_V3_1, address, regular } = {}) {
  const sudo = await signerToEcdsaValidator(client, { signer: owner, entryPoint, kernelVersion });
  return createKernelAccount(client, { entryPoint, kernelVersion, plugins: { sudo, regular }, index, address });
}

/** The owner lets `session` transfer at most `most` tokens to `to` with each operation. */
export function issue(client, owner, session, to, most, index, options = {}) {
  const transfer = { target: TOKEN, selector: "0xa9059cbb", valueLimit: 0n, rules: [equal(0, to), atMost(32, most)] };
  return approve(client, owner, session, [transfer], { index, ...options });
}

/** The owner lets `session` make these calls until a second; closed, so that it cannot sign in the account's name. */
export async function approve(client, owner, session, permissions, options) {
  const { kernelVersion = KERNEL_V3_1, policyVersion = CallPolicyVersion.V0_0_4 } = options;
  const { validUntil = 1_900_000_000, closed = true } = options;
  const regular = await toPermissionValidator(client, {
    signer: await toECDSASigner({ signer: addressToEmptyAccount(session) }),
    policies: [
      toCallPolicy({ policyVersion, permissions }),
      toTimestampPolicy({ validAfter: 0, validUntil }),
      ...(closed ? [toSignatureCallerPolicy({ allowedCallers: [] })] : []),
    ],
    entryPoint,
    kernelVersion,
  });
  const account = await kernel(client, owner, { ...options, regular });
  const text = await serializePermissionAccount(account);
  return { address: account.address, permissionId: regular.getIdentifier(), text };
}

/** Reads a session key and sends one call with it through a bundler; waits for its receipt. */
export async function use(client, bundler, session, text, call) {
  const signer = await toECDSASigner({ signer: session });
  const account = await deserializePermissionAccount(client, entryPoint, KERNEL_V3_1, text, signer);
  const sender = createKernelAccountClient({
    account,
    chain: client.chain,
    client,
    bundlerTransport: http(bundler),
    pollingInterval: 100,
    userOperation: { estimateFeesPerGas: () => client.estimateFeesPerGas() },
  });
  const hash = await sender.sendUserOperation({ callData: await account.encodeCalls([call]) });
  return { address: account.address, receipt: await sender.waitForUserOperationReceipt({ hash, timeout: 60_000 }) };
}
