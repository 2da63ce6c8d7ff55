// Pays once for every combination of client, server and facilitator, and checks each payment on the chain.
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { decodePaymentRequiredHeader } from "@x402/core/http";
import { decodeEventLog, isAddressEqual } from "viem";
import { balance, startAnvil, tokenAbi } from "./anvil.mjs";
import { AMOUNT, BODY, NETWORK, TOKEN, account, run, start } from "./lib.mjs";

const script = (name) => fileURLToPath(new URL(name, import.meta.url));

/** The published SDK's three roles. */
export const typescript = {
  name: "ts",
  body: BODY,
  facilitator: (rpc) => start(process.execPath, [script("facilitator.mjs")], { env: { RPC_URL: rpc, SIGNER: "0" }, name: "ts facilitator" }),
  server: (facilitator, payTo) =>
    start(process.execPath, [script("server.mjs")], {
      env: { FACILITATOR_URL: facilitator, PAY_TO: payTo },
      name: "ts server",
    }),
  async pay(url, payer) {
    const { stdout, stderr, code } = await run(process.execPath, [script("client.mjs"), url], { PAYER: String(payer) });
    if (code !== 0) throw new Error(`client ended with ${code}: ${stdout}${stderr}`);
    const { status, body, payment } = JSON.parse(stdout);
    if (status !== 200) throw new Error(`status ${status}`);
    return { body, payment };
  },
};

function check(condition, text) {
  if (!condition) throw new Error(text);
}

/** A 402 that the published SDK can read, and nothing served. */
async function unpaid(url, payTo) {
  const response = await fetch(url);
  check(response.status === 402, `unpaid: status ${response.status}`);
  const required = decodePaymentRequiredHeader(response.headers.get("PAYMENT-REQUIRED"));
  check(required.x402Version === 2, `unpaid: x402Version ${required.x402Version}`);
  check(required.resource?.url?.endsWith("/paid"), `unpaid: resource ${JSON.stringify(required.resource)}`);
  const [entry] = required.accepts;
  check(entry.scheme === "exact" && entry.network === NETWORK, `unpaid: ${JSON.stringify(entry)}`);
  check(entry.amount === String(AMOUNT), `unpaid: amount ${entry.amount}`);
  check(isAddressEqual(entry.asset, TOKEN) && isAddressEqual(entry.payTo, payTo), `unpaid: ${JSON.stringify(entry)}`);
}

/** The transaction of the receipt moved the price from payer to seller and nothing else. */
async function settled(client, transaction, payer, payTo) {
  const receipt = await client.getTransactionReceipt({ hash: transaction });
  check(receipt.status === "success", `transaction ${transaction} reverted`);
  const transfers = receipt.logs
    .filter((log) => isAddressEqual(log.address, TOKEN))
    .flatMap((log) => {
      try {
        return [decodeEventLog({ abi: tokenAbi, ...log }).args];
      } catch {
        return []; // another event of the token
      }
    });
  check(transfers.length === 1, `${transfers.length} transfers in ${transaction}`);
  const [{ from, to, value }] = transfers;
  check(isAddressEqual(from, payer) && isAddressEqual(to, payTo) && value === AMOUNT, `transfer ${from} ${to} ${value}`);
}

/** Runs every combination that `wanted` keeps; true if all passed. */
export async function matrix(sides, wanted = () => true) {
  const payerIndex = 1;
  const payTo = account(3).address;
  const payer = account(payerIndex).address;
  const anvil = await startAnvil([payerIndex]);
  const started = [anvil];
  const result = { passed: 0, failed: 0 };
  const attempt = async (name, what) => {
    try {
      const value = await what();
      result.passed += 1;
      console.log(`ok    ${name}`);
      return value;
    } catch (error) {
      result.failed += 1;
      console.log(`FAIL  ${name}\n      ${error.message.trim().replaceAll("\n", "\n      ")}`);
      return undefined;
    }
  };
  for (const facilitatorSide of sides) {
    const facilitator = await attempt(`${facilitatorSide.name} facilitator starts`, () => facilitatorSide.facilitator(anvil.rpc));
    if (facilitator) started.push(facilitator);
    for (const serverSide of sides) {
      const route = `${serverSide.name} server -> ${facilitatorSide.name} facilitator`;
      if (!sides.some((side) => wanted(side, serverSide, facilitatorSide))) continue;
      const server = await attempt(`${route}: starts`, () => {
        check(facilitator, "there is no facilitator");
        return serverSide.server(facilitator.listening, payTo);
      });
      if (server) started.push(server);
      const url = server && `${server.listening}/paid`;
      await attempt(`${route}: unpaid request gets a 402`, () => {
        check(server, "there is no server");
        return unpaid(url, payTo);
      });
      for (const clientSide of sides) {
        if (!wanted(clientSide, serverSide, facilitatorSide)) continue;
        await attempt(`${clientSide.name} client -> ${route}: paid`, async () => {
          check(server, "there is no server");
          const holders = [payer, payTo];
          const before = await Promise.all(holders.map((holder) => balance(anvil.client, holder)));
          const { body, payment } = await clientSide.pay(url, payerIndex).catch((error) => {
            throw new Error(`${error.message}\nserver: ${server.errors()}\nfacilitator: ${facilitator.errors()}`);
          });
          const after = await Promise.all(holders.map((holder) => balance(anvil.client, holder)));
          check(isDeepStrictEqual(body, serverSide.body), `body ${JSON.stringify(body)}`);
          check(payment?.success === true, `receipt ${JSON.stringify(payment)}`);
          check(payment.network === NETWORK, `network ${payment.network}`);
          check(payment.payer === undefined || isAddressEqual(payment.payer, payer), `payer ${payment.payer}`);
          await settled(anvil.client, payment.transaction, payer, payTo);
          check(before[0] - after[0] === AMOUNT, `payer's balance moved by ${before[0] - after[0]}`);
          check(after[1] - before[1] === AMOUNT, `seller's balance moved by ${after[1] - before[1]}`);
        });
      }
    }
  }
  await Promise.all(started.reverse().map((child) => child.stop()));
  console.log(`${result.passed} passed, ${result.failed} failed`);
  return result.failed === 0 && result.passed > 0;
}
