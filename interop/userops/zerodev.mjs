// What ZeroDev's SDK does with session keys: issues one, and uses one.
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

/** The owner lets `session` transfer at most `most` tokens to `to` with each operation. */
export function issue(client, owner, session, to, most, index, options = {}) {
  const rule = (condition, offset, value) => ({ condition, offset, params: [pad(value, { size: 32 })] });
  const rules = [rule(ParamCondition.EQUAL, 0, to), rule(ParamCondition.LESS_THAN_OR_EQUAL, 32, toHex(most))];
  const transfer = { target: TOKEN, selector: "0xa9059cbb", valueLimit: 0n, rules };
  return approve(client, owner, session, [transfer], { index, ...options });
}

/** The owner lets `session` make these calls. `address` says where the account is, if the chain cannot. */
export async function approve(client, owner, session, permissions, options) {
  const { index = 0n, kernelVersion = KERNEL_V3_1, policyVersion = CallPolicyVersion.V0_0_4, address } = options;
  const sudo = await signerToEcdsaValidator(client, { signer: owner, entryPoint, kernelVersion });
  const regular = await toPermissionValidator(client, {
    signer: await toECDSASigner({ signer: addressToEmptyAccount(session) }),
    policies: [
      toCallPolicy({ policyVersion, permissions }),
      toTimestampPolicy({ validAfter: 0, validUntil: 1_900_000_000 }),
      toSignatureCallerPolicy({ allowedCallers: [] }),
    ],
    entryPoint,
    kernelVersion,
  });
  const plugins = { sudo, regular };
  const account = await createKernelAccount(client, { entryPoint, kernelVersion, plugins, index, address });
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
