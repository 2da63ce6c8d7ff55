// A local chain with the test token at the address of Base Sepolia's USDC. HARDFORK: prague (default) or cancun.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAbi } from "viem";
import { CHAIN_ID, TOKEN, account, chainClient, start } from "./lib.mjs";

export const tokenAbi = parseAbi([
  "function mint(address to, uint256 amount) returns (bool)",
  "function balanceOf(address) view returns (uint256)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
]);

const here = dirname(fileURLToPath(import.meta.url));

/** TOKEN_ARTIFACT: another build of the token with `deployedBytecode`. It must have neither constructor nor immutables. */
function tokenCode() {
  const path = process.env.TOKEN_ARTIFACT ?? join(here, "../crates/x402-devchain/contracts/artifacts/DevUsdc.json");
  return JSON.parse(readFileSync(path, "utf8")).deployedBytecode;
}

/** The binary from npm, x86-64 Linux; elsewhere ANVIL names one. */
function binary() {
  if (process.env.ANVIL) return process.env.ANVIL;
  return createRequire(import.meta.url).resolve("@foundry-rs/anvil-linux-amd64/bin/anvil");
}

/** Starts the chain and gives each index of `funded` 1,000 tokens. */
export async function startAnvil(funded, hardfork = process.env.HARDFORK ?? "prague") {
  const args = ["--chain-id", String(CHAIN_ID), "--hardfork", hardfork, "--host", "127.0.0.1", "--port", "0"];
  const read = (line) => {
    const [, address] = /^Listening on (127\.0\.0\.1:\d+)/.exec(line) ?? [];
    return address && { rpc: `http://${address}` };
  };
  const anvil = await start(binary(), args, { read, name: "anvil" });
  const client = chainClient(anvil.rpc, account(9));
  await client.request({ method: "anvil_setCode", params: [TOKEN, tokenCode()] });
  for (const index of funded) {
    const hash = await client.writeContract({
      address: TOKEN,
      abi: tokenAbi,
      functionName: "mint",
      args: [account(index).address, 1_000_000_000n],
    });
    await client.waitForTransactionReceipt({ hash });
  }
  return { ...anvil, client };
}

export function balance(client, address) {
  return client.readContract({ address: TOKEN, abi: tokenAbi, functionName: "balanceOf", args: [address] });
}
