// Records what alto answers: bundler.json in the folder that is given.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { toECDSASigner } from "@zerodev/permissions/signers";
import { deserializePermissionAccount } from "@zerodev/permissions";
import { createKernelAccountClient } from "@zerodev/sdk";
import { KERNEL_V3_1, getEntryPoint } from "@zerodev/sdk/constants";
import { encodeFunctionData, http, toHex } from "viem";
import { formatUserOperationRequest, getUserOperationHash } from "viem/account-abstraction";
import { startAlto } from "./alto.mjs";
import { ENTRY_POINT, fund, startChain, tokenAbi } from "./chain.mjs";
import { TOKEN, account } from "./lib.mjs";
import { issue } from "./zerodev.mjs";

const [folder] = process.argv.slice(2);
const chain = await startChain();
const alto = await startAlto(chain.rpc);
const ask = async (method, params) => {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const response = await fetch(alto.url, { method: "POST", headers: { "content-type": "application/json" }, body });
  const { result, error } = await response.json();
  return error ? { error } : { result };
};
const entryPoint = getEntryPoint("0.7");
const recipient = account(5).address;
const transfer = (value) => encodeFunctionData({ abi: tokenAbi, functionName: "transfer", args: [recipient, value] });

/** An operation of a key, signed; `change` alters it before that. */
async function operation(text, value, change = {}, signer = account(2)) {
  const kernel = await deserializePermissionAccount(
    chain.client,
    entryPoint,
    KERNEL_V3_1,
    text,
    await toECDSASigner({ signer }),
  );
  const client = createKernelAccountClient({
    account: kernel,
    chain: chain.client.chain,
    client: chain.client,
    bundlerTransport: http(alto.url),
  });
  const fees = await chain.client.estimateFeesPerGas();
  const limits = { callGasLimit: 200_000n, verificationGasLimit: 2_500_000n, preVerificationGas: 200_000n };
  const callData = await kernel.encodeCalls([{ to: TOKEN, value: 0n, data: transfer(value) }]);
  const prepared = await client.prepareUserOperation({ callData, ...limits, ...fees, ...change });
  const { account: _, ...rest } = { ...prepared, ...change };
  const signature = await kernel.signUserOperation(rest);
  const hash = getUserOperationHash({ chainId: 84532, entryPointAddress: ENTRY_POINT, entryPointVersion: "0.7", userOperation: { ...rest, signature } });
  return { hash, operation: formatUserOperationRequest({ ...rest, signature }) };
}

const owner = account(1);
const session = account(2).address;
const rich = await issue(chain.client, owner, session, recipient, 50n, 0n);
const poor = await issue(chain.client, owner, session, recipient, 50n, 1n);
await fund(chain.client, rich.address, 20n);

const out = { supportedEntryPoints: await ask("eth_supportedEntryPoints", []), chainId: await ask("eth_chainId", []) };
const good = await operation(rich.text, 3n);
const send = ({ operation }) => ask("eth_sendUserOperation", [operation, ENTRY_POINT]);
out.estimate = await ask("eth_estimateUserOperationGas", [good.operation, ENTRY_POINT]);
out.estimateReverts = await ask("eth_estimateUserOperationGas", [(await operation(rich.text, 30n)).operation, ENTRY_POINT]);
out.wrongSignature = await send({ operation: { ...good.operation, callGasLimit: toHex(200_001) } });
out.notEnoughFunds = await send(await operation(poor.text, 1n));
out.nonceNotNext = await send({ operation: { ...good.operation, nonce: toHex(BigInt(good.operation.nonce) + 7n) } });
const { callData: _, ...cut } = good.operation;
out.missingField = await send({ operation: cut });
out.unknownEntryPoint = await ask("eth_sendUserOperation", [good.operation, recipient]);
out.receiptBefore = await ask("eth_getUserOperationReceipt", [good.hash]);
out.byHashBefore = await ask("eth_getUserOperationByHash", [good.hash]);
out.good = good;
out.sent = await send(good);
out.sentTwice = await send(good);
for (let i = 0; i < 100 && !(out.receipt?.result); i += 1) {
  out.receipt = await ask("eth_getUserOperationReceipt", [good.hash]);
  await new Promise((resolve) => setTimeout(resolve, 100));
}
out.byHash = await ask("eth_getUserOperationByHash", [good.hash]);
out.sentAfterLanding = await send(good);
writeFileSync(join(folder, "bundler.json"), `${JSON.stringify(out, null, 1)}\n`);
await Promise.all([alto, chain].map((child) => child.stop()));
process.exit(0);
