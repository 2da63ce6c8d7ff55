// What every script here shares: the well-known test accounts, the network, and child processes that end with their parent.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { mnemonicToAccount } from "viem/accounts";
import { createPublicClient, createWalletClient, defineChain, http, publicActions } from "viem";

export const CHAIN_ID = 84532;
export const NETWORK = `eip155:${CHAIN_ID}`;
/** The default asset of Base Sepolia: the SDKs know its name, version and decimals, so a price in dollars finds it. */
export const TOKEN = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
export const PRICE = "$0.01";
export const AMOUNT = 10_000n;
export const BODY = { report: "paid content" };

/** Prints and counts what a script checks; `end` prints the sum, and ends the script with 1 if anything failed. */
export function checks(name) {
  let [passed, failed] = [0, 0];
  const check = (condition, text) => {
    console.log(`${condition ? "ok   " : "FAIL "} ${text}`);
    if (condition) passed += 1;
    else failed += 1;
  };
  const end = () => {
    console.log(`${name}: ${passed} passed, ${failed} failed`);
    process.exit(failed === 0 ? 0 : 1);
  };
  return { check, end };
}

/** Anvil's account of an index: public knowledge, never to be used where money is real. */
export function account(index) {
  return mnemonicToAccount("test test test test test test test test test test test junk", { addressIndex: index });
}

export function privateKey(index) {
  return `0x${Buffer.from(account(index).getHdKey().privateKey).toString("hex")}`;
}

/** A viem client of the chain behind `rpc`, with a wallet if a signer is given. */
export function chainClient(rpc, signer) {
  const chain = defineChain({
    id: CHAIN_ID,
    name: "anvil",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [rpc] } },
  });
  const options = { chain, transport: http(rpc), pollingInterval: 50 };
  return signer
    ? createWalletClient({ ...options, account: signer }).extend(publicActions)
    : createPublicClient(options);
}

export function need(name) {
  const value = process.env[name];
  if (!value) throw new Error(`environment variable ${name} is not set`);
  return value;
}

/** Prints the ready line and makes this process end when its standard input closes. */
export function ready(line) {
  console.log(JSON.stringify(line));
  process.stdin.on("end", () => process.exit(0)).on("error", () => process.exit(0)).resume();
}

export function listen(server) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`));
  });
}

const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

/** Starts a program and waits for the first line that `read` makes something of. */
export function start(command, args, { cwd, env = {}, read = JSON.parse, name = command, seconds = 60 } = {}) {
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] });
  children.add(child);
  let errors = "";
  child.stderr.on("data", (chunk) => (errors = (errors + chunk).slice(-4000)));
  child.stdin.on("error", () => {});
  return new Promise((resolve, reject) => {
    const fail = (why) => {
      child.kill("SIGKILL");
      reject(new Error(`${name}: ${why}\n${errors}`));
    };
    const timer = setTimeout(() => fail(`not ready after ${seconds} s`), seconds * 1000);
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code, signal) => {
      children.delete(child);
      clearTimeout(timer);
      fail(`ended (${signal ?? code}) before it was ready`);
    });
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => {
      let value;
      try {
        value = read(line);
      } catch {
        return fail(`unreadable first line: ${line}`);
      }
      if (!value) return;
      clearTimeout(timer);
      lines.close();
      child.stdout.resume();
      resolve({ ...value, child, errors: () => errors, stop: () => stop(child) });
    });
  });
}

function stop(child) {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    const timer = setTimeout(() => child.kill("SIGKILL"), 3000);
    child.once("exit", () => {
      clearTimeout(timer);
      resolve();
    });
    child.stdin.end();
    child.kill("SIGTERM");
  });
}

/** Runs a program to its end. */
export function run(command, args, env = {}, seconds = 60) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  const timer = setTimeout(() => child.kill("SIGKILL"), seconds * 1000);
  const out = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) child[name].on("data", (chunk) => (out[name] += chunk));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      children.delete(child);
      resolve({ ...out, code: code ?? signal });
    });
  });
}
