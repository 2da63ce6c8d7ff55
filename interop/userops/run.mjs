// Session keys between ZeroDev's SDK and the Rust crates: whoever issues one, the other side uses it.
import { encodeFunctionData } from "viem";
import { startAlto } from "./alto.mjs";
import { approvals } from "./approvals.mjs";
import { balance, deposited, fund, startChain, tokenAbi } from "./chain.mjs";
import { attempt, finish } from "./checks.mjs";
import { TOKEN, account, privateKey } from "./lib.mjs";
import { ours } from "./ours.mjs";
import { smartSessions } from "./smart-sessions.mjs";
import { issue, use } from "./zerodev.mjs";

const MOST = 5n;
const UNTIL = 1_900_000_000;
const [owner, session, payer, to] = [1, 2, 3, 5];
const recipient = account(to).address;
const transfer = (value) => encodeFunctionData({ abi: tokenAbi, functionName: "transfer", args: [recipient, value] });

// What is only written and read, on the versions whose contracts are on no registry.
await approvals(attempt);
await smartSessions(attempt);

const chain = await startChain();
const alto = await startAlto(chain.rpc);
const issuers = {
  typescript: async (index) => issue(chain.client, account(owner), account(session).address, recipient, MOST, BigInt(index)),
  rust: async (index) => {
    const call = `${TOKEN}:0xa9059cbb:0=${BigInt(recipient)}:32<=${MOST}`;
    const signer = account(session).address;
    const args = ["--signer", signer, "--chain-id", "84532", "--call", call, "--valid-until", UNTIL, "--index", index];
    const text = await ours("X402_BIN", ["session", "issue", ...args.map(String)], { X402_PRIVATE_KEY: privateKey(owner) });
    const seen = await ours("X402_BIN", ["session", "inspect", "--json", "--signer", signer, "--rpc", chain.rpc], {}, text);
    return { address: JSON.parse(seen).account, text };
  },
};
const rust = (env) => async (text, value) => {
  const secrets = { SESSION_KEY: privateKey(session), ...env };
  const line = await ours("X402_SESSION_KEY_BIN", [chain.rpc, TOKEN, transfer(value)], secrets, text);
  return JSON.parse(line).success;
};
const users = {
  "typescript by alto": async (text, value) => {
    const call = { to: TOKEN, value: 0n, data: transfer(value) };
    return (await use(chain.client, alto.url, account(session), text, call)).receipt.success;
  },
  "rust by alto": rust({ BUNDLER_URL: alto.url }),
  "rust by itself": rust({ PAYER_KEY: privateKey(payer) }),
};
// What one side does with its own keys and without a bundler shows nothing.
const pairs = [
  ["typescript", "rust by itself"],
  ["typescript", "rust by alto"],
  ["rust", "rust by alto"],
  ["rust", "typescript by alto"],
];

/** The sum moves, or nothing does. */
const moves = async (sum, what) => {
  const before = await balance(chain.client, recipient);
  const done = await what();
  const moved = (await balance(chain.client, recipient)) - before;
  if (moved !== sum) throw new Error(`${moved} tokens moved, not ${sum}`);
  return done;
};

for (const [index, [from, by]] of pairs.entries()) {
  let key;
  await attempt(`a key issued by ${from}, used by ${by}: is read`, async () => {
    key = await issuers[from](index);
    await fund(chain.client, key.address, 100n);
  });
  for (const mode of ["deploys and enables", "default mode"]) {
    await attempt(`a key issued by ${from}, used by ${by}: ${mode}`, async () => {
      const before = await deposited(chain.client, key.address);
      const success = await moves(MOST, () => users[by](key.text, MOST));
      if (success !== true) throw new Error("the operation failed");
      // A bundler's fees come out of the deposit; who bundles for itself asks for none.
      const fees = before - (await deposited(chain.client, key.address));
      if (fees > 0n !== by.endsWith("alto")) throw new Error(`${fees} wei of fees`);
    });
  }
  await attempt(`a key issued by ${from}, used by ${by}: too much is refused`, async () => {
    const refused = await moves(0n, () => users[by](key.text, MOST + 1n).then(() => false, () => true));
    if (!refused) throw new Error("it was not refused");
  });
}
await Promise.all([alto, chain].map((child) => child.stop()));
finish();
