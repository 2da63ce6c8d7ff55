// Drives the double of crates/x402-card with the official client, npm stripe 23.1, and prints what it saw as one line of
// JSON. The test crates/x402-facilitator/tests/card_stripe.rs starts the double, runs this, and compares the calls.
import Stripe from 'stripe';

const url = new URL(process.argv[2]);
const client = (key, retries) =>
  new Stripe(key, { host: url.hostname, port: url.port, protocol: 'http', maxNetworkRetries: retries, telemetry: false });
const stripe = client('sk_test_interop', 0);
const refused = (promise) =>
  promise.then(
    () => 'no error',
    (error) => ({ type: error.type, code: error.code, declineCode: error.decline_code, status: error.statusCode, intent: error.payment_intent?.status }),
  );
const seen = {};

const customer = await stripe.customers.create();
const setup = await stripe.setupIntents.create({ customer: customer.id, usage: 'off_session' });
const enrolled = await stripe.setupIntents.confirm(setup.id, { payment_method: 'pm_card_visa' });
const method = (await stripe.paymentMethods.retrieve(enrolled.payment_method)).id;
const form = (payment_method, mark) => ({
  amount: 700, currency: 'usd', customer: customer.id, payment_method, payment_method_types: ['card'],
  metadata: { x402_payment: mark, x402_plan: '1001' },
  transfer_data: { destination: 'acct_Seller01' }, application_fee_amount: 17,
});
const mark = 'ab'.repeat(32);

// The same key gives the same intent; with another body it is an error.
const intent = await stripe.paymentIntents.create(form(method, mark), { idempotencyKey: 'k-o' });
const again = await stripe.paymentIntents.create(form(method, mark), { idempotencyKey: 'k-o' });
seen.sameIntent = intent.id === again.id;
seen.replayed = again.lastResponse.headers['idempotent-replayed'] ?? null;
seen.otherBody = await refused(stripe.paymentIntents.create({ ...form(method, mark), amount: 800 }, { idempotencyKey: 'k-o' }));
seen.created = { status: intent.status, received: intent.amount_received };

const confirmed = await stripe.paymentIntents.confirm(intent.id, { off_session: true }, { idempotencyKey: 'k-c1' });
seen.confirmed = { status: confirmed.status, received: confirmed.amount_received };
seen.confirmedTwice = await refused(stripe.paymentIntents.confirm(intent.id, { off_session: true }, { idempotencyKey: 'k-c2' }));
seen.canceledPaid = await refused(stripe.paymentIntents.cancel(intent.id, { cancellation_reason: 'abandoned' }, { idempotencyKey: 'k-x' }));
const page = await stripe.paymentIntents.list({ customer: customer.id, created: { gte: 1 }, limit: 100 });
seen.listed = page.data.map((one) => one.metadata.x402_payment === mark);

const refund = await stripe.refunds.create(
  { payment_intent: intent.id, metadata: { x402_payment: mark }, reverse_transfer: true, refund_application_fee: true },
  { idempotencyKey: 'k-r' },
);
seen.refund = { status: refund.status, amount: refund.amount };
seen.refundedTwice = await refused(stripe.refunds.create({ payment_intent: intent.id, reverse_transfer: true }, { idempotencyKey: 'k-r2' }));
seen.refunds = (await stripe.refunds.list({ payment_intent: intent.id })).data.length;

seen.declines = {};
for (const name of ['pm_card_visa_chargeDeclined', 'pm_card_visa_chargeDeclinedInsufficientFunds', 'pm_card_visa_chargeDeclinedLostCard',
  'pm_card_chargeDeclinedExpiredCard', 'pm_card_chargeDeclinedProcessingError', 'pm_card_authenticationRequired', 'pm_card_chargeCustomerFail']) {
  const open = await stripe.paymentIntents.create(form(name, name), { idempotencyKey: `${name}-o` });
  const error = await refused(stripe.paymentIntents.confirm(open.id, { off_session: true }, { idempotencyKey: `${name}-c1` }));
  const looked = await stripe.paymentIntents.retrieve(open.id);
  const late = await refused(stripe.paymentIntents.confirm(open.id, { off_session: true }, { idempotencyKey: `${name}-c2` }));
  const canceled = await stripe.paymentIntents.cancel(open.id, { cancellation_reason: 'abandoned' }, { idempotencyKey: `${name}-x` });
  seen.declines[name] = { error, after: looked.status, method: looked.payment_method, late: late.code, canceled: canceled.status };
}

seen.unknownParameter = await refused(stripe.paymentIntents.create({ ...form(method, 'x'), colour: 'red' }));
seen.tooSmall = await refused(stripe.paymentIntents.create({ ...form(method, 'x'), amount: 49 }));
seen.badDestination = await refused(stripe.paymentIntents.create({ ...form(method, 'x'), transfer_data: { destination: 'acct_Nobody' } }));
seen.missing = await refused(stripe.paymentIntents.retrieve('pi_unknown'));
seen.noKey = await refused(client('sk_other', 0).paymentIntents.retrieve(intent.id));
console.log(JSON.stringify(seen));
