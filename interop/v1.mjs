// Version 1 in every combination of client, server and facilitator with one role of ours: x402-fetch, x402-express and x402
// 1.2.0, Python's x402 1.0.0, and the facilitator of 2.27. X402_V1 names the folder of the first, X402_V1_PY that of the
// second, X402_PYTHON the interpreter. Every document of ours is read by the schemas of x402 1.2.0, which know no further code.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { balance, startAnvil } from "./anvil.mjs";
import { AMOUNT, BODY, TOKEN, account, checks, need, privateKey, run, start } from "./lib.mjs";
import { typescript } from "./matrix.mjs";
import { rust } from "./rust.mjs";

const [PAYER, PAYEE, THEIRS] = [1, 3, 4];
const payTo = account(PAYEE).address;
const roles = join(need("X402_V1"), "roles.mjs");
const python = [join(need("X402_V1_PY"), "roles.py")];
const inPython = { env: { PYTHONPATH: need("X402_V1_PY") }, name: "Python's server" };
const { check, end } = checks("version 1");
const same = (one, two) => JSON.stringify(one) === JSON.stringify(two);
const last = ({ stdout, stderr }) => {
  try {
    return JSON.parse(stdout.trim().split("\n").at(-1));
  } catch {
    return { error: (stdout + stderr).slice(-2000) };
  }
};
const read = async (document, value) => last(await run(process.execPath, [roles, "read", document, JSON.stringify(value ?? null)]));

const sides = {
  "x402 1.2": {
    server: (facilitator) => start(process.execPath, [roles, "server", facilitator, payTo], { name: "x402-express" }),
    facilitator: (rpc) => start(process.execPath, [roles, "facilitator", rpc, String(THEIRS)], { name: "x402's facilitator" }),
    pay: async (url) => last(await run(process.execPath, [roles, "client", url, String(PAYER)])),
  },
  "Python's 1.0": {
    server: (facilitator) => start(need("X402_PYTHON"), [...python, "server", facilitator, payTo], inPython),
    pay: async (url) => last(await run(need("X402_PYTHON"), [...python, "client", url, privateKey(PAYER)], inPython.env)),
  },
  "@x402 2.27": { facilitator: typescript.facilitator },
  ours: {
    server: (facilitator) => rust.server(facilitator, payTo),
    facilitator: (rpc) => rust.facilitator(rpc),
    pay: (url) => rust.pay(url, PAYER).then((paid) => ({ status: 200, ...paid }), (error) => ({ error: error.message })),
  },
};

const codes = JSON.parse(readFileSync(need("X402_V1_CODES"))).codes;
check(same([...new Set(await read("codes"))], codes), "the recorded list of codes is the published one");

const anvil = await startAnvil([PAYER]);
await anvil.client.request({ method: "anvil_setBalance", params: [account(THEIRS).address, "0x56bc75e2d63100000"] });
const paid = async () => (await balance(anvil.client, payTo)) / AMOUNT;

for (const [facilitatorName, facilitatorSide] of Object.entries(sides)) {
  if (!facilitatorSide.facilitator) continue;
  const facilitator = await facilitatorSide.facilitator(anvil.rpc);
  for (const [serverName, serverSide] of Object.entries(sides)) {
    if (!serverSide.server) continue;
    // Our client and our server speak version 2 with each other, which a facilitator of version 1 does not know.
    const newer = (name) => name === "ours" && serverName === "ours" && facilitatorName === "x402 1.2";
    const clients = Object.entries(sides).filter(
      ([name, side]) => side.pay && !newer(name) && [name, serverName, facilitatorName].includes("ours"),
    );
    if (clients.length === 0) continue;
    const server = await serverSide.server(facilitator.listening);
    const url = `${server.listening}/paid`;
    if (serverName === "ours") {
      const answer = await fetch(url);
      const required = await answer.json();
      check(answer.status === 402 && required.x402Version === 1, `${facilitatorName}: our server asks in version 1`);
      check(same(await read("required", { ...required, error: undefined }), "read"), "x402 1.2 reads our 402");
    }
    for (const [clientName, clientSide] of clients) {
      const name = `${clientName} client, ${serverName} server, ${facilitatorName} facilitator`;
      const before = await paid();
      const { status, body, payment, error } = await clientSide.pay(url);
      const good = status === 200 && same(body, BODY) && payment?.success === true;
      check(good, `${name}: paid${good ? "" : ` ${status} ${error ?? JSON.stringify(body)}\n${server.errors()}${facilitator.errors()}`}`);
      check((await paid()) - before === 1n, `${name}: once`);
    }
    await server.stop();
  }
  if (facilitatorName === "ours") await refusals(facilitator.listening);
  await facilitator.stop();
}

/** Payments with a fault, whose refusals the published schemas read: they know no code but those of their list. */
async function refusals(facilitator) {
  const kinds = (await (await fetch(`${facilitator}/supported`)).json()).kinds.filter((kind) => kind.x402Version === 1);
  check(kinds.length > 0 && same(await read("supported", { kinds }), "read"), "x402 1.2 reads our kinds of version 1");
  const asked = {
    scheme: "exact", network: "base-sepolia", maxAmountRequired: String(AMOUNT), resource: "https://shop.example/paid",
    description: "", mimeType: "", payTo, maxTimeoutSeconds: 120, asset: TOKEN, extra: { name: "USDC", version: "2" },
  };
  const now = Math.floor(Date.now() / 1000);
  const field = (name, type) => ({ name, type });
  const types = {
    TransferWithAuthorization: [
      field("from", "address"), field("to", "address"), field("value", "uint256"),
      field("validAfter", "uint256"), field("validBefore", "uint256"), field("nonce", "bytes32"),
    ],
  };
  const nonce = `0x${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex")}`;
  const faults = {
    "a greater value": [{ value: AMOUNT + 1n }, {}, "invalid_exact_evm_payload_authorization_value"],
    "a smaller value": [{ value: AMOUNT - 1n }, {}, "invalid_exact_evm_payload_authorization_value"],
    "another recipient": [{ to: account(5).address }, {}, "invalid_exact_evm_payload_recipient_mismatch"],
    "an expired one": [{ validBefore: BigInt(now - 1) }, {}, "invalid_exact_evm_payload_authorization_valid_before"],
    "one of tomorrow": [{ validAfter: BigInt(now + 86_400) }, {}, "invalid_exact_evm_payload_authorization_valid_after"],
    "a token of another name": [{}, { extra: { name: "Other", version: "2" } }, "invalid_payment_requirements"],
    "another payer's funds": [{ from: account(7).address }, {}, "invalid_exact_evm_payload_signature"],
  };
  for (const [what, [change, terms, code]] of Object.entries(faults)) {
    const message = {
      from: account(PAYER).address, to: payTo, value: AMOUNT, validAfter: 0n, validBefore: BigInt(now + 110), nonce, ...change,
    };
    const signature = await account(PAYER).signTypedData({
      domain: { name: "USDC", version: "2", chainId: 84532, verifyingContract: TOKEN },
      types, primaryType: "TransferWithAuthorization", message,
    });
    const text = ({ value, validAfter, validBefore, ...others }) =>
      ({ ...others, value: String(value), validAfter: String(validAfter), validBefore: String(validBefore) });
    const paymentPayload = {
      x402Version: 1, scheme: "exact", network: "base-sepolia", payload: { signature, authorization: text(message) },
    };
    for (const [path, reason] of [["verify", "invalidReason"], ["settle", "errorReason"]]) {
      const answer = await (await fetch(`${facilitator}/${path}`, {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify({ x402Version: 1, paymentPayload, paymentRequirements: { ...asked, ...terms } }),
      })).json();
      check(answer[reason] === code, `${what}, ${path}: ${answer[reason]}`);
      // Its own refusals have no transaction, too, which its own schema does not read.
      const how = await read(path, path === "settle" ? { ...answer, transaction: answer.transaction || nonce } : answer);
      check(same(how, "read"), `x402 1.2 reads it${same(how, "read") ? "" : `: ${JSON.stringify(how)}`}`);
    }
  }
}

await anvil.stop();
end();
