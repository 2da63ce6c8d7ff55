// Writes the seeds of every corpus from values that other software made: `node fuzz/seeds.mjs`.
// A seed is named after the file it comes from. `found-*` are inputs that a fuzzer found; they stay as they are.
import fs from 'node:fs'
import path from 'node:path'

const here = path.dirname(new URL(import.meta.url).pathname)
const corpora = path.join(here, 'corpus')
const vectors = path.join(here, '../crates/x402-testkit/vectors')

const text = (file) => fs.readFileSync(path.join(vectors, file), 'utf8')
const vector = (file) => JSON.parse(text(file))
const folder = (name) =>
  fs.readdirSync(path.join(vectors, name)).filter((file) => file.endsWith('.json')).map((file) => [file.slice(0, -5), vector(`${name}/${file}`)])

for (const target of fs.existsSync(corpora) ? fs.readdirSync(corpora) : [])
  for (const file of fs.readdirSync(path.join(corpora, target)))
    if (!file.startsWith('found-')) fs.rmSync(path.join(corpora, target, file))

function seed(target, name, bytes) {
  const file = path.join(corpora, target, name)
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.writeFileSync(file, bytes)
}

// Messages of the published SDKs, in headers as they were sent and in bodies.
const MESSAGES = {
  'v1::PaymentPayload': ['decode_payment_signature'],
  'v2::PaymentPayload': ['decode_payment_signature', 'decode_nvm'],
  'v1::PaymentRequired': ['decode_payment_required'],
  'v2::PaymentRequired': ['decode_payment_required'],
  'v2::VerifyResponse': ['decode_facilitator_answer'],
  'v2::SettleResponse': ['decode_facilitator_answer'],
  'v2::SupportedResponse': ['decode_facilitator_answer'],
  VerifyRequest: ['decode_verify_request'],
  SettleRequest: ['decode_verify_request'],
}
for (const [name, { type, json, header }] of folder('messages')) {
  for (const target of MESSAGES[type] ?? []) seed(target, name, JSON.stringify(json))
  if (header && MESSAGES[type]) {
    seed(MESSAGES[type][0], `${name}-header`, header)
    seed('diff_base64', name, header)
  }
}
for (const { kind, value, message } of vector('headers/typescript.json').cases.slice(0, 6)) {
  seed('diff_base64', `typescript-${kind}`, value.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, ''))
  seed('diff_json', `typescript-${kind}`, message)
}
// RFC 4648 §10.
for (const word of ['', 'f', 'fo', 'foo', 'foob', 'fooba', 'foobar']) seed('diff_base64', `rfc4648-${word}`, Buffer.from(word).toString('base64'))

// The Smart Accounts Extension: its document's samples, and what its SDK sends.
for (const [name, { type, json, filled }] of folder('nvm'))
  if (['nvm::PaymentPayload', 'nvm::FacilitatorRequest'].includes(type)) seed('decode_nvm', name, JSON.stringify(filled ?? json))

// JSONTestSuite, where readers differ.
for (const { name, input, unit } of vector('json/jsontestsuite.json'))
  if (!unit && /^(i_|y_(object|string_(acc|all|double|esc|pi|sur|uni|utf8|null|uE))|y_structure)/.test(name)) seed('diff_json', name, input)

// The samples of `402kit-x402v1.md`.
const samples = path.join(here, '../crates/x402-challenge/tests/document')
for (const file of fs.readdirSync(samples)) if (!file.endsWith('.md')) seed('decode_challenge', file, fs.readFileSync(path.join(samples, file)))
