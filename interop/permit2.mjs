// EIP-3009, settled after and before the handler, Permit2, `upto` and both sponsored allowances: every combination of client, server and facilitator in which one role is ours,
// each payment checked on the chain. Permit2 and Multicall3 are the deployed bytecode; the proxies are this project's Solidity
// with the same ABI, types and events, since no registry has the deployed ones built.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { decodePaymentRequiredHeader } from "@x402/core/http";
import { parseAbi } from "viem";
import { balance, startAnvil } from "./anvil.mjs";
import { AMOUNT, TOKEN, account, need, privateKey, run, start } from "./lib.mjs";
import { rust } from "./rust.mjs";

const contracts = need("X402_CONTRACTS");
const PERMIT2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3";
const erc20 = parseAbi([
  "function allowance(address owner, address spender) view returns (uint256)",
  "function approve(address spender, uint256 value) returns (bool)",
]);
const payTo = account(4).address;
const [PAYER, payer] = [1, account(1).address];

async function place(client) {
  const artifact = (name) => JSON.parse(readFileSync(join(contracts, `artifacts/${name}.json`), "utf8")).bytecode;
  const put = (address, code) => client.request({ method: "anvil_setCode", params: [address, code] });
  const bytes = (name) => `0x${readFileSync(join(contracts, `third-party/${name}.bin`)).toString("hex")}`;
  for (const [address, code] of [
    [PERMIT2, bytes("Permit2")],
    ["0xcA11bde05977b3631167028862bE2a173976CA11", bytes("Multicall3")],
  ]) {
    await put(address, code);
  }
  // The constructor, with Permit2 as its argument, runs in the place of the contract, and returns the contract's code.
  for (const [address, name] of [
    ["0x402085c248EeA27D92E8b30b2C58ed07f9E20001", "X402ExactPermit2Proxy"],
    ["0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002", "X402UptoPermit2Proxy"],
  ]) {
    await put(address, artifact(name) + PERMIT2.slice(2).padStart(64, "0"));
    const { data } = await client.call({ to: address });
    await put(address, data);
  }
}

const script = fileURLToPath(new URL("permit2-ts.mjs", import.meta.url));
const typescript = {
  name: "ts",
  facilitator: (rpc) =>
    start(process.execPath, [script, "facilitator"], { env: { RPC_URL: rpc }, name: "ts facilitator" }),
  server: (facilitator, rpc) =>
    start(process.execPath, [script, "server"], {
      env: { FACILITATOR_URL: facilitator, PAY_TO: payTo, RPC_URL: rpc },
      name: "ts server",
    }),
  async pay(url, rpc) {
    const env = { PAYER: String(PAYER), RPC_URL: rpc };
    const { stdout, stderr, code } = await run(process.execPath, [script, "client", url], env);
    if (code !== 0) throw new Error(`client ended with ${code}: ${stdout}${stderr}`);
    const answer = JSON.parse(stdout);
    if (answer.overrides) throw new Error(`the payer saw Settlement-Overrides: ${answer.overrides}`);
    return answer;
  },
};
// X402_PYTHON: an interpreter that has `x402[evm,httpx,fastapi]` 2.25 and uvicorn.
const roles_py = fileURLToPath(new URL("permit2.py", import.meta.url));
const py = (role, env, name) => start(need("X402_PYTHON"), [roles_py, role], { env, name });
const python = {
  name: "py",
  facilitator: (rpc) => py("facilitator", { RPC_URL: rpc, KEY: privateKey(5) }, "py facilitator"),
  server: (facilitator) => py("server", { FACILITATOR_URL: facilitator, PAY_TO: payTo }, "py server"),
  async pay(url, rpc) {
    const { stdout, stderr, code } = await run(need("X402_PYTHON"), [roles_py, "client", url], { RPC_URL: rpc, KEY: privateKey(PAYER) });
    if (code !== 0) throw new Error(`client ended with ${code}: ${stdout}${stderr}`);
    const answer = JSON.parse(stdout.trim().split("\n").at(-1));
    if (answer.overrides) throw new Error(`the payer saw Settlement-Overrides: ${answer.overrides}`);
    return answer;
  },
};
const ours = {
  name: "rust",
  facilitator: (rpc) => rust.facilitator(rpc),
  server: (facilitator) =>
    start(need("X402_METERED_BIN"), [], { env: { FACILITATOR_URL: facilitator, PAY_TO: payTo }, name: "rust server" }),
  async pay(url, rpc) {
    const env = { X402_PRIVATE_KEY: privateKey(PAYER) };
    const arguments_ = ["pay", url, "--json", "--no-journal", "--rpc", rpc];
    const { stdout, stderr, code } = await run(need("X402_BIN"), arguments_, env);
    if (code !== 0) throw new Error(`x402 pay ended with ${code}: ${stdout}${stderr}`);
    return JSON.parse(stdout.trim().split("\n").at(-1));
  },
};

const anvil = await startAnvil([PAYER]);
await place(anvil.client);
const allowance = () =>
  anvil.client.readContract({ address: TOKEN, abi: erc20, functionName: "allowance", args: [payer, PERMIT2] });

/** Sets the payer's allowance by a transaction of the payer. */
async function approve(value) {
  await anvil.client.request({ method: "anvil_impersonateAccount", params: [payer] });
  const args = [PERMIT2, value];
  const hash = await anvil.client.writeContract({ account: payer, address: TOKEN, abi: erc20, functionName: "approve", args });
  await anvil.client.waitForTransactionReceipt({ hash });
  await anvil.client.request({ method: "anvil_stopImpersonatingAccount", params: [payer] });
  if ((await allowance()) !== value) throw new Error("the allowance is not set");
}

const most = 2n ** 256n - 1n;
// The path, the allowance before, what moves, and whether these roles have the case: the Python server and facilitator of this test
// have no approvals, and our client signs none for a token with permits.
const cases = [
  ["eip3009", "/eip3009", 0n, AMOUNT, () => true],
  ["eip3009, upfront", "/upfront", 0n, AMOUNT, () => true],
  ["permit2", "/exact", most, AMOUNT, () => true],
  ["eip2612GasSponsoring", "/exact", 0n, AMOUNT, () => true],
  ["erc20ApprovalGasSponsoring", "/approved", 0n, AMOUNT, (...roles) => roles[0] !== ours && !roles.slice(1).includes(python)],
  ["upto", "/upto", most, AMOUNT / 10n, () => true],
  ["upto, eip2612GasSponsoring", "/upto", 0n, AMOUNT / 10n, () => true],
];
let [failed, paid] = [0, 0];
// `--self`: the scripts without our binaries.
const self = process.argv.includes("--self");
const foreign = process.env.X402_PYTHON ? [typescript, python] : [typescript];
const roles = self ? foreign : [...foreign, ours];
for (const facilitatorOf of roles) {
  const facilitator = await facilitatorOf.facilitator(anvil.rpc);
  for (const serverOf of roles) {
    const server = await serverOf.server(facilitator.listening, anvil.rpc);
    for (const client of roles) {
      if (!self && ![facilitatorOf, serverOf, client].includes(ours)) continue;
      for (const [name, path, before, moves, signs] of cases) {
        if (!signs(client, serverOf, facilitatorOf)) continue;
        const title = `${name}: ${client.name} client, ${serverOf.name} server, ${facilitatorOf.name} facilitator`;
        try {
          await approve(before);
          const had = await balance(anvil.client, payTo);
          const url = `${server.listening}${path}`;
          const asked = decodePaymentRequiredHeader((await fetch(url)).headers.get("PAYMENT-REQUIRED")).accepts[0];
          if ((path === "/upfront") !== (asked.extra?.paymentFlow === "upfront")) {
            throw new Error(`the server asks for another flow: ${JSON.stringify(asked)}`);
          }
          const { status, payment } = await client.pay(url, anvil.rpc);
          const moved = (await balance(anvil.client, payTo)) - had;
          if (status !== 200 || !payment?.success || moved !== moves) {
            throw new Error(`status ${status}, moved ${moved} of ${moves}, ${JSON.stringify(payment)}`);
          }
          paid += 1;
          console.log(`ok    ${title}`);
        } catch (error) {
          failed += 1;
          console.log(`FAIL  ${title}: ${error.message}`);
        }
      }
    }
    await server.stop();
  }
  await facilitator.stop();
}
await anvil.stop();
console.log(failed ? `${failed} failed` : `every way to pay: ${paid} paid`);
process.exit(failed ? 1 : 0);
