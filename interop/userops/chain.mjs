// Anvil with the contracts of ERC-4337 and of Kernel where public chains have them, out of the devchain's own artifacts.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { concat, pad, parseAbi, toHex } from "viem";
import { CHAIN_ID, TOKEN, account, chainClient, need, start } from "./lib.mjs";

export const ENTRY_POINT = "0x0000000071727De22E5E9d8BAf0edAc6f37da032";
const depositAbi = parseAbi([
  "function depositTo(address account) payable",
  "function balanceOf(address account) view returns (uint256)",
]);
export const tokenAbi = parseAbi([
  "function mint(address to, uint256 amount) returns (bool)",
  "function transfer(address to, uint256 value) returns (bool)",
  "function balanceOf(address owner) view returns (uint256)",
]);
/** The test contract of plans, where the devchain has it: orders, credits and redemptions in one. */
export const PLANS = "0x504c414e53000000000000000000000000000402";
export const plansAbi = parseAbi([
  "struct Plan { address token; address seller; uint256 price; uint256 credits; uint256 minimum; uint256 maximum; uint256 duration; bool payAsYouGo; bool known; }",
  "function register(uint256 planId, Plan plan)",
  "function balanceOf(address account, uint256 planId) view returns (uint256)",
  "event TransferSingle(address indexed operator, address indexed from, address indexed to, uint256 id, uint256 value)",
]);

const KERNEL = "0xBAC849bB641841b44E965fB01A4Bf5F074f84b4D";
const FACTORY = "0xaac5D4240AF87249B3f71BC8E4A2cae074A3E419";
const bytes = (name) => toHex(readFileSync(join(need("CONTRACTS"), "third-party", `${name}.bin`)));
const own = (name) => JSON.parse(readFileSync(join(need("CONTRACTS"), "artifacts", `${name}.json`), "utf8"));

/** Runs creation code at an address: its writes stay there, and what it returns becomes the code. */
async function construct(client, address, code, args = []) {
  const creation = concat([code, ...args.map((arg) => pad(arg))]);
  await client.request({ method: "anvil_setCode", params: [address, creation] });
  const hash = await client.sendTransaction({ to: address, gas: 10_000_000n });
  const { status } = await client.waitForTransactionReceipt({ hash });
  if (status !== "success") throw new Error(`the constructor at ${address} fails`);
  const { data } = await client.call({ to: address, gas: 10_000_000n });
  await client.request({ method: "anvil_setCode", params: [address, data] });
}

/** Starts the chain; account 0 sends what its client sends. */
export async function startChain() {
  const binary = process.env.ANVIL ?? createRequire(import.meta.url).resolve("@foundry-rs/anvil-linux-amd64/bin/anvil");
  const args = ["--chain-id", String(CHAIN_ID), "--host", "127.0.0.1", "--port", "0"];
  const read = (line) => {
    const [, address] = /^Listening on (127\.0\.0\.1:\d+)/.exec(line) ?? [];
    return address && { rpc: `http://${address}` };
  };
  const anvil = await start(binary, args, { read, name: "anvil" });
  const client = chainClient(anvil.rpc, account(0));
  const salt = "0x90d8084deab30c2a37c45e8d47f49f2f7965183cb6990a98943ef94940681de3";
  const deployed = await client.sendTransaction({
    to: "0x4e59b44847b379578588920ca78fbf26c0b4956c",
    data: concat([salt, bytes("EntryPoint-0.7.0")]),
  });
  await client.waitForTransactionReceipt({ hash: deployed });
  if (!(await client.getCode({ address: ENTRY_POINT }))) throw new Error("EntryPoint 0.7 has another address");
  await construct(client, KERNEL, bytes("Kernel-0.3.1"), [ENTRY_POINT]);
  await construct(client, FACTORY, bytes("KernelFactory-0.3.1"), [KERNEL]);
  for (const [address, name, args] of [
    ["0xd703aaE79538628d27099B8c4f621bE4CCd142d5", "MetaFactory", [FACTORY]],
    ["0x845ADb2C711129d4f3966735eD98a9F09fC4cE57", "EcdsaValidator"],
    ["0x6A6F069E2a08c2468e7724Ab3250CdBFBA14D4FF", "EcdsaSigner"],
    ["0x9a52283276A0ec8740DF50bF01B28A80D880eaf2", "CallPolicy"],
    ["0xB9f8f524bE6EcD8C945b1b87f9ae5C192FdCE20F", "TimestampPolicy"],
    ["0xf63d4139B25c836334edD76641356c6b74C86873", "RateLimitPolicy"],
    ["0xF6A936c88D97E6fad13b98d2FD731Ff17eeD591d", "SignatureCallerPolicy"],
  ]) {
    await construct(client, address, own(name).bytecode, args);
  }
  for (const [address, name] of [
    [TOKEN, "DevUsdc"],
    [PLANS, "DevPlans"],
  ]) {
    await client.request({ method: "anvil_setCode", params: [address, own(name).deployedBytecode] });
  }
  return { ...anvil, client };
}

/** Tokens, and a deposit at the EntryPoint for operations that pay for themselves. The account itself has no ETH. */
export async function fund(client, address, tokens) {
  const deposit = { address: ENTRY_POINT, abi: depositAbi, functionName: "depositTo", args: [address], value: 10n ** 18n };
  const mint = { address: TOKEN, abi: tokenAbi, functionName: "mint", args: [address, tokens] };
  for (const write of [deposit, mint]) {
    const { status } = await client.waitForTransactionReceipt({ hash: await client.writeContract(write) });
    if (status !== "success") throw new Error(`${write.functionName} fails`);
  }
}

/** What is left of an account's deposit, in wei. */
export function deposited(client, address) {
  return client.readContract({ address: ENTRY_POINT, abi: depositAbi, functionName: "balanceOf", args: [address] });
}

export function balance(client, address) {
  return client.readContract({ address: TOKEN, abi: tokenAbi, functionName: "balanceOf", args: [address] });
}
