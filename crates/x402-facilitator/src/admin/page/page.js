'use strict';
// The page of x402-facilitator's operator. It writes text alone, never markup, and asks this origin alone.
const by = (id) => document.getElementById(id);
let token = sessionStorage.getItem('token') || '';
let timer = 0;
let searches = 0;

async function ask(path, options) {
  const answer = await fetch(path, { ...options, headers: { authorization: 'Bearer ' + token } });
  if (answer.status === 401) { leave(); throw new Error('The token is wrong'); }
  if (!answer.ok) throw new Error(path + ': ' + answer.status);
  return answer;
}
const read = async (path, options) => (await ask(path, options)).json();
const status = (text, bad) => { by('status').textContent = text; by('status').className = bad ? 'bad' : ''; };

function leave() {
  token = ''; sessionStorage.removeItem('token'); clearTimeout(timer);
  by('content').hidden = true; by('login').hidden = false; by('token').focus();
}

function cells(values) {
  const row = document.createElement('tr');
  for (const value of values) {
    const cell = document.createElement('td');
    if (value instanceof Node) cell.append(value);
    else if (value && value.bad) { cell.textContent = value.text; cell.className = 'bad'; }
    else cell.textContent = value;
    row.append(cell);
  }
  return row;
}

// The coins of an integer of wei, without a float.
function coins(wei) {
  if (wei === null) return 'unknown';
  const digits = wei.padStart(19, '0');
  return digits.slice(0, -18) + '.' + digits.slice(-18, -12);
}
const short = (text) => text.length > 20 ? text.slice(0, 10) + '…' + text.slice(-8) : text;
const age = (from, now) => from ? (now - from) + ' s' : 'unknown';
const time = (seconds) => seconds ? new Date(seconds * 1000).toISOString().slice(0, 19) + 'Z' : 'unknown';

function opener(id) {
  const button = document.createElement('button');
  button.type = 'button'; button.textContent = id.slice(-64, -52) + '…'; button.title = id;
  button.setAttribute('aria-label', 'Timeline of payment ' + id);
  button.addEventListener('click', () => timeline(id).catch(failed));
  return button;
}
const failed = (error) => status(error.message, true);

// Writes the rows anew. The focus of the keyboard stays on its payment.
function rewrite(body, rows) {
  const active = body.contains(document.activeElement) && document.activeElement.title;
  body.replaceChildren(...rows);
  if (active) for (const button of body.querySelectorAll('button')) if (button.title === active) button.focus();
}

async function refresh() {
  clearTimeout(timer);
  try {
    const state = await read('/admin/state');
    by('login').hidden = true; by('content').hidden = false;
    by('paused').textContent = state.paused ? 'Paused ' + state.paused + ': no new payments are taken, open ones go on.' : 'Taken.';
    by('paused').className = state.paused ? 'bad' : '';
    by('lanes').replaceChildren(...state.lanes.map((it) =>
      cells([it.lane, coins(it.balance), it.short ? { bad: true, text: 'short' } : it.low ? { bad: true, text: 'low' } : 'enough', it.nextNonce, it.openSlots])));
    by('budgets').replaceChildren(...state.budgets.map((it) =>
      cells([it.network, it.asset === 'gas' ? 'gas, wei' : short(it.asset), it.per, short(it.of), it.most, it.left === '0' ? { bad: true, text: '0' } : it.left])));
    by('budgets-section').hidden = state.budgets.length === 0;
    by('heads').textContent = Object.entries(state.headAgeSeconds).map(([network, s]) => network + ': newest block ' + s + ' s old').join('; ');
    by('open-count').textContent = state.openPayments + ' open, the ' + state.oldest.length + ' oldest below';
    rewrite(by('open'), state.oldest.map((it) =>
      cells([age(it.claimed, state.now), it.state, it.network, it.amount, short(it.payer), it.caller, opener(it.id)])));
    status('Connected, ' + time(state.now));
  } catch (error) { failed(error); }
  if (token) timer = setTimeout(refresh, 5000);
}

// The answer of the newest search alone is shown.
async function search() {
  const mine = searches += 1;
  by('found-count').textContent = 'Searching';
  const { payments, whole } = await read('/admin/payments?q=' + encodeURIComponent(by('query').value.trim()));
  if (mine !== searches) return;
  rewrite(by('found'), payments.map((it) =>
    cells([time(it.claimed), it.state + (it.reason ? ': ' + it.reason : ''), it.network, it.amount, short(it.payer), it.transaction ? short(it.transaction) : '', opener(it.id)])));
  by('found-count').textContent = payments.length + ' found' + (whole ? '' : ', and there may be more');
  value(payments);
}

async function timeline(id) {
  const { payment, steps } = await read('/admin/payments/' + id);
  const lines = ['claimed at ' + time(payment.claimed) + ' by caller ' + (payment.caller || '(none)') + ', lane ' + payment.lane];
  for (const step of steps) {
    lines.push('step ' + step.name + ' is ' + step.state + (step.detail ? ': ' + step.detail : ''));
    for (const slot of step.carriers) {
      lines.push('nonce ' + slot.nonce + ' taken at ' + time(slot.opened) + (slot.final ? ', final' : ', not final') + ', sent again ' + slot.resends + ' times');
      for (const attempt of slot.attempts) lines.push('signed ' + attempt.transaction + ' at a fee of ' + attempt.fee);
    }
  }
  lines.push(payment.state + (payment.reason ? ': ' + payment.reason : '') + (payment.transaction ? ' by ' + payment.transaction : ''));
  by('steps').replaceChildren(...lines.map((line) => { const item = document.createElement('li'); item.textContent = line; return item; }));
  by('timeline').hidden = false; by('timeline-title').focus();
}

// Bars with a label below each: pairs of label and number.
function bars(target, pairs) {
  const space = 'http://www.w3.org/2000/svg';
  const most = Math.max(1, ...pairs.map(([, number]) => number));
  const svg = document.createElementNS(space, 'svg');
  svg.setAttribute('viewBox', '0 0 600 160'); svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', pairs.map(([label, number]) => label + ': ' + number).join(', ') || 'no data');
  pairs.forEach(([label, number], at) => {
    const width = 600 / pairs.length, height = 120 * number / most;
    const bar = document.createElementNS(space, 'rect');
    for (const [name, v] of Object.entries({ x: at * width + 2, y: 130 - height, width: Math.max(1, width - 4), height })) bar.setAttribute(name, v);
    const text = document.createElementNS(space, 'text');
    text.setAttribute('x', at * width + 2); text.setAttribute('y', 146); text.textContent = label;
    svg.append(bar, text);
  });
  target.replaceChildren(svg);
}

// Amounts of two tokens are never added.
function value(payments) {
  const hours = new Map();
  for (const it of payments) if (it.state === 'settled') {
    const label = time(it.claimed).slice(5, 13) + ' ' + it.asset.slice(0, 6);
    hours.set(label, (hours.get(label) || 0) + Number(it.amount));
  }
  bars(by('value-plot'), [...hours].sort().slice(-12));
}

async function latency() {
  const text = await (await ask('/metrics')).text();
  const counts = new Map();
  for (const [, bound, count] of text.matchAll(/^x402_payment_seconds_bucket\{.*le="([^"]+)"\} (\d+)$/gm)) {
    counts.set(bound, (counts.get(bound) || 0) + Number(count));
  }
  let before = 0;
  bars(by('latency-plot'), [...counts].map(([bound, count]) => {
    const own = count - before; before = count;
    return ['≤ ' + bound.replace('+Inf', '∞') + ' s', own];
  }));
}

async function save(path, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(await (await ask(path)).blob()); link.download = name; link.click();
  URL.revokeObjectURL(link.href);
}

async function show() { await refresh(); if (token) { await search(); await latency(); } }
by('login-form').addEventListener('submit', (event) => {
  event.preventDefault();
  token = by('token').value.trim(); sessionStorage.setItem('token', token); by('token').value = '';
  show().catch(failed);
});
by('search-form').addEventListener('submit', (event) => { event.preventDefault(); search().catch(failed); });
for (const name of ['pause', 'resume']) by(name).addEventListener('click', () =>
  read('/admin/' + name, { method: 'POST' }).then(refresh).catch(failed));
by('csv').addEventListener('click', () => save('/admin/receipts.csv', 'receipts.csv').catch(failed));
by('json').addEventListener('click', () => save('/admin/receipts.json', 'receipts.jsonl').catch(failed));
if (token) show().catch(failed); else by('token').focus();
