// The extensions of the published Python SDK, x402 2.25.0, each alone and all together, on anvil: its client at our server, our
// client at its server on FastAPI, our server at its facilitator, its search of our catalog. X402_PY names its folder, X402_PYTHON the interpreter that has it.
import { join } from "node:path";
import { parseBuilderCodeSuffixFromCalldata } from "@x402/extensions/builder-code";
import { balance, startAnvil } from "./anvil.mjs";
import { AMOUNT, BODY, account, checks, need, privateKey, run, start } from "./lib.mjs";
import { rust } from "./rust.mjs";

const NAMES = ["payment-identifier", "bazaar", "builder-code", "sign-in-with-x"];
const SETS = [...NAMES.map((name) => [name]), NAMES];
const [PAYER, SIGNER] = [1, 4];
const payTo = account(3).address;
const roles = join(need("X402_PY"), "roles.py");
const { check, end } = checks("python");
const same = (one, two) => JSON.stringify(one) === JSON.stringify(two);

const anvil = await startAnvil([PAYER]);
const codes = '[builder_code]\nwallet = "our_wallet"\n';
const facilitator = await rust.facilitator(anvil.rpc, codes, {}, "discovery = true\n");
const paid = async () => (await balance(anvil.client, payTo)) / AMOUNT;
const codesOf = async (hash) => parseBuilderCodeSuffixFromCalldata((await anvil.client.getTransaction({ hash })).input);

for (const set of [...SETS, [...NAMES, "offer-receipt"]]) {
  const name = `Python's client, ${set.length > 4 ? "all of ours" : set.length > 1 ? "all" : set[0]}`;
  const env = { EXTENSIONS: set.join(","), SIGNER: privateKey(SIGNER) };
  const seller = await rust.extended(facilitator.listening, payTo, env);
  const before = await paid();
  const { stdout, stderr } = await run(need("X402_PYTHON"), [roles, "client", `${seller.listening}/paid`, privateKey(PAYER), set.join(",")]);
  let [answer, again] = [{}];
  try {
    [answer, again] = stdout.trim().split("\n").map((line) => JSON.parse(line));
  } catch {
    console.log(stderr.slice(-2000));
  }
  check(answer.status === 200 && same(answer.body, BODY) && answer.payment?.success === true, `${name}: it pays our server`);
  check((await paid()) - before === 1n && answer.reports === null, `${name}: once, and learns no report`);
  if (set.includes("builder-code") && answer.payment) {
    const read = await codesOf(answer.payment.transaction);
    check(same(read, { a: "our_app", w: "our_wallet", s: ["py_client", "our_service"] }), `${name}: codes ${JSON.stringify(read)}`);
  }
  if (set.includes("sign-in-with-x")) {
    const signedIn = again?.status === 200 && again.payment === null && same(again.body, BODY);
    check(signedIn && (await paid()) - before === 1n, `${name}: it signs in, and pays no more`);
  }
  await seller.stop();
}

for (const set of SETS) {
  const name = `Python's server, ${set.length > 1 ? "all" : set[0]}`;
  const server = await start(need("X402_PYTHON"), [roles, "server", facilitator.listening, payTo, set.join(",")], { name });
  const before = await paid();
  const signsIn = set.includes("sign-in-with-x");
  let [answer, again] = [{}];
  try {
    [answer, again] = await rust.buy(`${server.listening}/paid`, PAYER, signsIn ? 2 : 1);
  } catch (error) {
    answer = { error: error.message };
  }
  const { body, payment, error } = answer;
  check(same(body, BODY) && payment?.success === true, `${name}: our client pays it${error ? `: ${error}\n${server.errors()}` : ""}`);
  check((await paid()) - before === 1n, `${name}: once`);
  if (set.includes("builder-code") && payment) {
    const read = await codesOf(payment.transaction);
    check(same(read, { a: "py_app", w: "our_wallet", s: ["our_client", "py_service"] }), `${name}: codes ${JSON.stringify(read)}`);
  }
  if (signsIn) check(again?.admittedBy === "sign-in-with-x" && same(again.body, BODY), `${name}: our client signs in`);
  if (set.includes("bazaar")) {
    let found = [];
    for (let turn = 0; turn < 50 && !found.includes(`${server.listening}/paid`); turn += 1) {
      const { stdout } = await run(need("X402_PYTHON"), [roles, "search", facilitator.listening, "report python"]);
      found = JSON.parse(stdout || "[]");
    }
    check(found.includes(`${server.listening}/paid`), `${name}: it finds itself in our catalog`);
  }
  await server.stop();
}

// Our server and our client at Python's facilitator.
const THEIRS = 5;
await anvil.client.request({ method: "anvil_setBalance", params: [account(THEIRS).address, "0x56bc75e2d63100000"] });
const theirs = await start(need("X402_PYTHON"), [roles, "facilitator", anvil.rpc, privateKey(THEIRS)], { name: "Python's facilitator" });
for (const set of [...SETS, [...NAMES, "offer-receipt"]]) {
  const name = `Python's facilitator, ${set.length > 4 ? "all of ours" : set.length > 1 ? "all" : set[0]}`;
  const env = { EXTENSIONS: set.join(","), SIGNER: privateKey(SIGNER) };
  const seller = await rust.extended(theirs.listening, payTo, env);
  const url = `${seller.listening}/paid`;
  const before = await paid();
  let answer = {};
  try {
    answer = await rust.pay(url, PAYER);
  } catch (error) {
    answer = { error: error.message };
  }
  const { body, payment, error } = answer;
  check(same(body, BODY) && payment?.success === true, `${name}: our client pays our server${error ? `: ${error}\n${theirs.errors()}` : ""}`);
  check((await paid()) - before === 1n, `${name}: once`);
  if (set.includes("builder-code") && payment) {
    const read = await codesOf(payment.transaction);
    check(same(read, { a: "our_app", w: "py_wallet", s: ["our_service"] }), `${name}: codes ${JSON.stringify(read)}`);
  }
  if (set.includes("bazaar")) check(theirs.errors().includes(JSON.stringify(url)), `${name}: it reads our description`);
  await seller.stop();
}
await theirs.stop();

await Promise.all([facilitator, anvil].map((child) => child.stop()));
end();
