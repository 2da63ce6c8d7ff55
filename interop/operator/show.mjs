// From an empty folder to a payment's line in the books: `init`, `check`, `serve`, one payment, its timeline on the
// operator's page (Chromium, by the keyboard alone, at two widths), its metrics, its CSV line.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

import { chromium } from "./chromium.mjs";

const run = promisify(execFile);
const binary = (name) => process.env[name] ?? assert.fail(`${name} is not set`);
const [facilitator, seller, x402] = ["X402_FACILITATOR_BIN", "X402_SELLER_BIN", "X402_BIN"].map(binary);
const pictures = process.env.X402_PICTURES;
const folder = mkdtempSync(join(tmpdir(), "x402-show-"));
const children = [];
const say = (text) => console.log(`show: ${text}`);

// Starts a process and returns the line of JSON that it prints.
async function start(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"], ...options });
  children.push(child);
  const ended = new Promise((_, reject) => child.once("exit", (code) => reject(new Error(`${command} ended with ${code}`))));
  ended.catch(() => {});
  const line = new Promise((resolve) => createInterface({ input: child.stdout }).once("line", resolve));
  return { child, line: JSON.parse(await Promise.race([line, ended])) };
}

async function rpc(url, method, params) {
  const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }) });
  const { result, error } = await answer.json();
  assert.equal(error, undefined, JSON.stringify(error));
  return result;
}

// What a real seller has beside it: a proxy that adds the caller's token.
async function withToken(target, token) {
  const server = http.createServer((request, response) => {
    const { hostname, port } = new URL(target);
    const onward = http.request({ hostname, port, path: request.url, method: request.method, headers: { ...request.headers, authorization: `Bearer ${token}` } },
      (answer) => { response.writeHead(answer.statusCode, answer.headers); answer.pipe(response); });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => { server.close(); server.closeAllConnections(); } };
}

async function page(width, height, url, token, hash) {
  const browser = await chromium(width, height);
  try {
    await browser.open(url);
    await browser.until("document.activeElement?.id === 'token'");
    // By the keyboard alone: the token, then the search, then the first payment found.
    await browser.type(token);
    await browser.press("Enter");
    await browser.until("document.querySelector('#lanes tr') && document.querySelector('#found tr')");
    await browser.value("document.getElementById('query').focus()");
    await browser.type(hash.slice(2));
    await browser.press("Enter");
    await browser.until("document.getElementById('found-count').textContent.startsWith('1 found')");
    await browser.press("Tab");
    for (let presses = 0; !(await browser.value("document.activeElement.closest('#found') !== null")); presses += 1) {
      assert.ok(presses < 10, "the payment is reached by the tabulator");
      await browser.press("Tab");
    }
    await browser.press("Enter");
    const text = await browser.until("!document.getElementById('timeline').hidden && document.getElementById('steps').innerText");
    assert.match(text, /step transfer is proven/);
    assert.ok(text.includes(`settled by ${hash}`), text);
    // Nothing is wider than the screen, but the tables in their own scrolling regions.
    assert.ok(await browser.value("document.documentElement.scrollWidth <= window.innerWidth"), `${width}: the page scrolls sideways`);
    assert.equal(await browser.value("document.querySelectorAll('#value-plot rect').length > 0"), true);
    assert.deepEqual(browser.errors, []);
    if (pictures) {
      mkdirSync(pictures, { recursive: true });
      writeFileSync(join(pictures, `operator-${width}.png`), await browser.picture());
    } else {
      assert.ok((await browser.picture()).length > 10_000);
    }
    say(`the page at ${width} pixels shows the payment's timeline`);
  } finally {
    await browser.close();
  }
}

let proxy;
try {
  const chain = await start(facilitator, ["serve", "--dev"]);
  const node = chain.line.rpc;
  const at = { cwd: folder };

  const { stdout } = await run(facilitator, ["init", "--rpc", node, "--finality", "0", "--listen", "127.0.0.1:0"], at);
  const { signer } = JSON.parse(stdout);
  say(`init made a configuration with the signer ${signer}`);
  const admin = randomBytes(32).toString("hex");
  appendFileSync(join(folder, "facilitator.toml"),
    `\n[admin]\nlisten = "127.0.0.1:0"\ntoken_sha256 = "${createHash("sha256").update(admin).digest("hex")}"\n`);

  const before = await run(facilitator, ["check"], at).catch((error) => error);
  assert.equal(before.code, 1, "a signer without coins is a problem");
  assert.match(before.stdout, /problem +eip155:84532 signer/);
  await rpc(node, "anvil_setBalance", [signer, "0xde0b6b3a7640000"]);
  await rpc(node, "evm_mine", []);
  const after = await run(facilitator, ["check"], at);
  say(`check:\n${after.stdout}`);

  const served = await start(facilitator, ["serve"], at);
  proxy = await withToken(served.line.listening, readFileSync(join(folder, "secrets/shop-token"), "utf8").trim());
  const shop = await start(seller, [], { cwd: folder, env: { ...process.env, LISTEN: "127.0.0.1:0", FACILITATOR_URL: proxy.url, PAY_TO: "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc" } });
  // The second account of the mnemonic that every Ethereum tool uses for tests.
  const env = { ...process.env, X402_PRIVATE_KEY: "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d" };
  const paid = JSON.parse((await run(x402, ["pay", `${shop.line.listening}/paid`, "--max", "0.10", "--json", "--no-journal"], { env })).stdout);
  const hash = JSON.stringify(paid).match(/0x[0-9a-f]{64}/)?.[0] ?? assert.fail(JSON.stringify(paid));
  say(`paid by ${hash}`);

  const headers = { authorization: `Bearer ${admin}` };
  const operator = served.line.admin;
  const metrics = await (await fetch(`${operator}/metrics`, { headers })).text();
  for (const line of [
    'x402_answered_total{network="eip155:84532",scheme="exact",result="settled"} 1',
    'x402_claimed_total{network="eip155:84532",scheme="exact",caller="shop"} 1',
  ]) assert.ok(metrics.includes(line), `${line}\n${metrics}`);
  say("its metrics are there");

  const csv = await (await fetch(`${operator}/admin/receipts.csv`, { headers })).text();
  const [head, line, end] = csv.split("\r\n");
  assert.equal(head, "id,claimed,state,network,scheme,asset,amount,payTo,payer,caller,request,transaction,reason");
  assert.ok(line.includes(`,settled,eip155:84532,exact,`) && line.includes(`,${hash},`) && end === "", csv);
  say(`its CSV line: ${line}`);

  await page(1280, 900, operator, admin, hash);
  await page(390, 844, operator, admin, hash);
  say("done");
} finally {
  proxy?.close();
  await Promise.all(children.reverse().map((child) => new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", resolve);
    child.kill("SIGTERM");
  })));
  rmSync(folder, { recursive: true, force: true });
}
