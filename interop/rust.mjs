// Our three roles, as binaries. What each is asked and what it must print stands in README.md.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { BODY, NETWORK, need, privateKey, run, start } from "./lib.mjs";

function binary(name) {
  const path = resolve(need(name));
  if (!existsSync(path)) throw new Error(`${name}: ${path} does not exist`);
  return path;
}

const directory = mkdtempSync(join(tmpdir(), "x402-interop-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

/** Each binary is looked up when its role is first played, so that a missing one fails only what needs it. */
export const rust = {
  name: "rust",
  body: process.env.X402_SELLER_BODY ? JSON.parse(process.env.X402_SELLER_BODY) : BODY,
  /**
   * `more`: further lines of the network's configuration, whose secrets are in `secrets`; `first`: lines before all
   * sections.
   */
  async facilitator(rpc, more = "", secrets = {}, first = "") {
    const config = join(directory, "facilitator.toml");
    writeFileSync(
      config,
      `${first}listen = "127.0.0.1:0"
ledger = "${join(directory, "ledger.sqlite")}"

[[network]]
id = "${NETWORK}"
rpc = { env = "INTEROP_RPC" }
finality = 0
poll_milliseconds = 50
max_fee_per_gas = 100000000000
signers = [{ env = "INTEROP_SIGNER" }]
${more}`,
    );
    const env = { INTEROP_RPC: rpc, INTEROP_SIGNER: privateKey(2), ...secrets };
    return start(binary("X402_FACILITATOR_BIN"), ["serve", "--config", config], { env, name: "rust facilitator" });
  },
  async server(facilitator, payTo) {
    const env = { FACILITATOR_URL: facilitator, PAY_TO: payTo };
    // It keeps its grants in the folder that it is started in.
    const cwd = mkdtempSync(join(directory, "seller-"));
    return start(binary("X402_SELLER_BIN"), [], { cwd, env, name: "rust seller" });
  },
  /** The seller with the extensions that `env` names. */
  async extended(facilitator, payTo, env) {
    const all = { FACILITATOR_URL: facilitator, PAY_TO: payTo, ...env };
    return start(binary("X402_EXTENDED_SELLER_BIN"), [], { env: all, name: "rust seller with extensions" });
  },
  /** Asks so many times with every extension of the buyer's side, and returns what each answer was. */
  async buy(url, payer, times = 1) {
    const env = { X402_PRIVATE_KEY: privateKey(payer) };
    const { stdout, stderr, code } = await run(binary("X402_EXTENDED_BUYER_BIN"), [url, String(times)], env);
    if (code !== 0) throw new Error(`extended_buyer ended with ${code}: ${stdout}${stderr}`);
    return stdout.trim().split("\n").map((line) => JSON.parse(line));
  },
  async pay(url, payer) {
    const env = { X402_PRIVATE_KEY: privateKey(payer) };
    const { stdout, stderr, code } = await run(binary("X402_BIN"), ["pay", url, "--json"], env);
    if (code !== 0) throw new Error(`x402 pay ended with ${code}: ${stdout}${stderr}`);
    const { status, body, payment } = JSON.parse(stdout.trim().split("\n").at(-1));
    if (status !== 200) throw new Error(`status ${status}`);
    return { body, payment };
  },
};
