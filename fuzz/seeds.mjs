// Writes the seeds of every corpus from values that other software made: `node fuzz/seeds.mjs`.
// A seed is named after the file it comes from. `found-*` are inputs that a fuzzer found; they stay as they are, and so
// does what it adds for itself, under 40 hex digits.
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
    if (!/^(found-.*|[0-9a-f]{40})$/.test(file)) fs.rmSync(path.join(corpora, target, file))

function seed(target, name, bytes) {
  const file = path.join(corpora, target, name)
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.writeFileSync(file, bytes)
}

// Messages of the published SDKs, in headers as they were sent and in bodies.
const MESSAGES = {
  'v1::PaymentPayload': ['decode_payment_signature'],
  'v2::PaymentPayload': ['decode_payment_signature', 'decode_nvm'],
  'v1::PaymentRequired': ['decode_payment_required', 'lint_document'],
  'v2::PaymentRequired': ['decode_payment_required', 'lint_document'],
  'v2::VerifyResponse': ['decode_facilitator_answer'],
  'v2::SettleResponse': ['decode_facilitator_answer'],
  'v2::SupportedResponse': ['decode_facilitator_answer'],
  VerifyRequest: ['decode_verify_request'],
  SettleRequest: ['decode_verify_request'],
  'v2::DiscoveryList': ['decode_discovery'],
}
for (const [name, { type, json, header }] of folder('messages')) {
  for (const target of MESSAGES[type] ?? []) seed(target, name, JSON.stringify(json))
  // The outer version must be the payment's.
  if (type === 'VerifyRequest') seed('decode_verify_request', `${name}-other`, JSON.stringify({ ...json, x402Version: 3 - json.x402Version }))
  if (header && MESSAGES[type]) {
    seed(MESSAGES[type][0], `${name}-header`, header)
    seed('diff_base64', name, header)
    if (type === 'v2::PaymentRequired') seed('lint_answer', name, header)
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

// What it has no case of: keys that are one by their escapes, the limit on depth, integers of each width.
for (const [name, text] of Object.entries({
  'escaped-twice': '{"a":1,"\\u0061":2}',
  'deep-32': '['.repeat(32) + ']'.repeat(32),
  'deep-33': '{"a":'.repeat(33) + '1' + '}'.repeat(33),
  integers: '[0,-0,01,9223372036854775807,9223372036854775808,-9223372036854775808,18446744073709551615,18446744073709551616,1.0,1e0]',
  unsigned: '[0,1,18446744073709551615]',
  signed: '{"a":-9223372036854775808,"b":9223372036854775807}',
  strings: '["a","\\ud83d\\ude00",null]',
  tuples: '[[true,255],[false,0]]',
}))
  seed('diff_json', name, text)

// The linter's own corpus: a document for each code, made by hand from the rules.
const rules = path.join(here, '../crates/x402-validate/tests/corpus')
for (const file of fs.readdirSync(rules).filter((file) => file.endsWith('.json'))) {
  const { code, has } = JSON.parse(fs.readFileSync(path.join(rules, file), 'utf8'))
  const { document, text } = has[0]
  if (JSON.stringify(document ?? text)?.length < 4096) seed('lint_document', code, document ? JSON.stringify(document) : text)
}
for (const [name, { type, json }] of folder('messages')) if (type === 'v1::PaymentRequired') seed('lint_answer', name, JSON.stringify(json))

// The samples of `402kit-x402v1.md`.
const samples = path.join(here, '../crates/x402-challenge/tests/document')
for (const file of fs.readdirSync(samples)) {
  if (!file.endsWith('.md')) seed('decode_challenge', file, fs.readFileSync(path.join(samples, file)))
  if (file.startsWith('payment') && file.endsWith('.json')) seed('canonical_texts', file, fs.readFileSync(path.join(samples, file)))
}
seed('canonical_texts', 'request', 'GET\nAPI.Example.COM.:443\n/a/%2f/../b\nx=1\nBearer 7d444840-9dc0-41d1-b245-5ffdce74fad2\na=b; 402_access=7d444840-9dc0-41d1-b245-5ffdce74fad2')
seed('canonical_texts', 'request-odd', 'POST\na..:80\n/\n\nbearer a\n402_access=b; 402_access=c')
// Published invoices with their preimages, from the test that names their sources.
const invoices = fs.readFileSync(path.join(here, '../crates/x402-challenge/tests/lightning.rs'), 'utf8')
for (const [, invoice, preimage] of invoices.matchAll(/invoice: "(\w+)",\s+preimage: "(\w+)"/g)) seed('decode_invoice', invoice.slice(0, 12), `${invoice}\n${preimage}`)

// Amounts, networks, addresses and times as they stand in the messages; the fuzzer needs one of each.
const SCALARS = { amount: '10000', seconds: '1740672154', most: (2n ** 256n - 1n).toString(), more: (2n ** 256n).toString(), u64: '18446744073709551615', beyond: '18446744073709551616', digits: '9'.repeat(20), chain: 'eip155:18446744073709551615', chains: 'eip155:18446744073709551616', base: 'eip155:8453', solana: 'solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp', dialect: 'evm:base:sepolia', lightning: 'lightning:bitcoin:mainnet', iso: '2025-10-19T12:00:00Z', zone: '2024-02-29T23:59:59.999+05:30', west: '2100-03-01T00:00:00-11:45', exact: 'exact', nvm: 'nvm:erc4337', uuid: '7d444840-9dc0-41d1-b245-5ffdce74fad2', host: 'api.example.com:8080', path: '/api/protected?a=1', method: 'GET', sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad' }
for (const [name, value] of Object.entries(SCALARS)) seed('roundtrip_scalars', name, value)
// EIP-55's own examples.
for (const address of ['0x52908400098527886E0F7030069857D2E4169EE7', '0xde709f2102306220921060314715629080e2fb77', '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed']) seed('roundtrip_scalars', `eip55-${address.slice(2, 8)}`, address)
for (const [name, { type, json }] of folder('messages')) if (type === 'v2::PaymentRequired') seed('diff_members', name, JSON.stringify(json.accepts?.[0]?.extra ?? json))

// What the SDKs sign: EIP-3009 payloads, their digests and signatures.
const hex = (text) => Buffer.from(text.replace(/^0x/, ''), 'hex')
const word = (number, length = 32) => hex(BigInt(number).toString(16).padStart(2 * length, '0'))
for (const [name, { type, json }] of folder('messages'))
  if (/::PaymentPayload$/.test(type) && json.payload.authorization) {
    seed('diff_eip3009_payload', name, JSON.stringify(json.payload))
    // The same with escapes, in members that count and in others.
    const escaped = JSON.stringify({ note: 'a"b\\', more: [{ '"': '}' }, ']'], ...json.payload }).replace('"signature":"0x', '"signature":"\\u0030x')
    seed('diff_eip3009_payload', `${name}-escaped`, escaped)
  }
for (const [name, { digest, signature, domain, message }] of Object.entries(vector('eip712.json'))) {
  if (!signature) continue
  seed('diff_recover', `eip712-${name}`, Buffer.concat([hex(digest), hex(signature)]))
  // The same by EIP-2098.
  const compact = hex(signature).subarray(0, 64)
  if (hex(signature)[64] === 28) compact[32] |= 0x80
  seed('diff_recover', `eip712-${name}-compact`, Buffer.concat([hex(digest), compact]))
  if (name !== 'eip3009_transfer') continue
  const { from, to, value, validAfter, validBefore, nonce } = message
  const numbers = [hex(from), hex(to), word(value), word(validAfter, 8), word(validBefore, 8), hex(nonce)]
  const texts = [Buffer.from([domain.name.length]), Buffer.from(domain.name + domain.version)]
  seed('diff_eip712_hash', name, Buffer.concat([word(domain.chainId, 8), hex(domain.verifyingContract), ...numbers, ...texts]))
}
// What the SDKs sign for Permit2: the recorded payloads, good and bad, and the ends of the numbers' ranges.
const permits = vector('permit2.json')
for (const { id, paymentPayload } of permits.facilitatorCases)
  if (/^(ok|ok_max_deadline|ok_amount_json_number|deadline_past|signature_high_s|signature_empty|payload_.*|upto_ok_settle_max)$/.test(id))
    seed('diff_permit2_payload', id, JSON.stringify(paymentPayload.payload))
for (const { id, owner, message, signature } of permits.permit2Digests)
  if (/a11579208/.test(id)) seed('diff_permit2_payload', id, JSON.stringify({ signature, permit2Authorization: { from: owner, ...message } }))
// What payers sign for others to send: the recorded approvals, good and bad.
for (const { id, paymentPayload } of permits.facilitatorCases) {
  const signed = paymentPayload.extensions?.erc20ApprovalGasSponsoring?.info?.signedTransaction
  if (signed?.startsWith('0x')) seed('decode_signed_approval', id, hex(signed))
}
const erc4337 = vector('erc4337.json')
for (const { erc6492Signature } of erc4337.erc1271) seed('roundtrip_eip6492', 'erc4337-erc1271', hex(erc6492Signature))

// What contracts and nodes returned.
for (const { name, accountId } of erc4337.accountProbes) if (accountId?.startsWith('0x')) seed('decode_chain_answer', `erc4337-${name.replaceAll(' ', '-')}`, hex(accountId))
seed('decode_chain_answer', 'bundles-eth-call-reverted', hex(vector('bundles.json').ethCallReverted.error.data))

// Operations that viem and EntryPoints hashed, that ZeroDev's and Biconomy's SDKs built, that Alto answered.
const operation = (name, op) => ['roundtrip_user_op', 'diff_user_op_hash'].forEach((target) => seed(target, name, JSON.stringify(op)))
for (const { name, entryPointVersion, userOperation, packed } of erc4337.userOpHash) {
  operation(`erc4337-${name}-${entryPointVersion}`, userOperation)
  if (packed) operation(`erc4337-${name}-${entryPointVersion}-packed`, packed)
}
operation('erc4337-simple7702', erc4337.eip7702.simple7702_v08.userOperation)
const bundler = vector('bundler.json')
operation('bundler-good', bundler.good.operation)
for (const name of ['estimate', 'receipt']) seed('decode_bundler_answer', `bundler-${name}`, JSON.stringify(bundler[name].result))
for (const { kernelVersion, policies, enableData, serialized, factoryData, executeCallData, operations } of erc4337.kernelPermissions) {
  const name = `kernel-${kernelVersion}-${enableData.length}`
  seed('decode_approval', name, Buffer.from(serialized, 'base64'))
  seed('roundtrip_permission', `${name}-enable-data`, hex(enableData))
  if (factoryData) seed('roundtrip_permission', `${name}-factory-data`, hex(factoryData))
  seed('roundtrip_call', name, hex(executeCallData))
  for (const { mode, finalSignature } of operations) seed('roundtrip_permission', `${name}-${mode}-signature`, hex(finalSignature))
}
for (const { policyParams, item } of erc4337.policyItems) seed('roundtrip_permission', `policy-${policyParams.type}`, hex(item))
for (const { kernelVersion, callPolicyVersion, permissionFlag, serialized, items } of vector('zerodev-approvals.json')) {
  const name = `zerodev-approvals-${kernelVersion}-${callPolicyVersion}-${permissionFlag}`
  seed('decode_approval', name, Buffer.from(serialized, 'base64'))
  items.forEach((item, at) => seed('roundtrip_permission', `${name}-${at}`, hex(item)))
}
const { use, unsafeEnable } = erc4337.smartSessions
seed('decode_smart_session', 'erc4337-use', hex(use.signature))
seed('decode_smart_session', 'erc4337-enable-inside', hex(unsafeEnable.enablePayloadUncompressed))
for (const { mode, encoded, biconomyText } of vector('smart-sessions.json')) {
  seed('decode_smart_session', `smart-sessions-${mode}`, hex(encoded))
  seed('decode_smart_session', `smart-sessions-${mode}-details`, biconomyText)
}
for (const [name, { data }] of Object.entries(erc4337.execution.failures)) seed('decode_revert', `erc4337-${name}`, hex(data))
for (const [name, { error }] of Object.entries(bundler)) if (error) seed('decode_revert', `bundler-${name}`, error.message)
for (const { name, validateUserOp_fromEntryPoint: answer } of erc4337.accountProbes) if (answer?.startsWith('0x')) seed('decode_revert', `validation-data-${name.replaceAll(' ', '-')}`, hex(answer))

// Extensions of the published SDK: signed offers and receipts, and canonical JSON.
const extensions = vector('extensions.json')
for (const { index, payload, signature } of [...extensions['offer-receipt.eip712Offers'], ...extensions['offer-receipt.eip712Receipts']])
  seed('decode_artifact', `eip712-${payload.payer ? 'receipt' : 'offer'}-${index}`, JSON.stringify({ format: 'eip712', payload, signature }))
for (const { index, jws, header } of extensions['offer-receipt.jws']) {
  seed('decode_artifact', `jws-${index}`, JSON.stringify({ format: 'jws', signature: jws }))
  seed('decode_artifact', `kid-${index}`, header.kid)
}
for (const { id, settleResponse } of extensions['offer-receipt.receipts']) {
  const offer = extensions['offer-receipt.serverEmits'][0].paymentRequired.extensions['offer-receipt'].info.offers[0]
  const { receipt } = settleResponse.extensions['offer-receipt'].info
  seed('decode_artifact', `kept-${id}`, JSON.stringify({ receipt, offer, url: offer.payload.resourceUrl, method: 'GET', transaction: '', keptAt: '1' }))
}
for (const { index, input } of extensions['offer-receipt.canonicalize']) seed('canonical_json', `sdk-${index}`, JSON.stringify(input))
// RFC 8785 §3.2.2.
seed('canonical_json', 'rfc8785', String.raw`{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`)
for (const { id, header } of extensions['sign-in-with-x.messages']) if (header) seed('decode_sign_in', `sdk-${id}`, header)
for (const { id, header } of extensions['sign-in-with-x.parse']) if (header) seed('decode_sign_in', `parse-${id}`, header)
for (const { index, suffix } of extensions['builder-code.encode']) seed('decode_builder_codes', `sdk-${index}`, hex(suffix))
for (const { id, transaction } of extensions['builder-code.settleTransactions']) seed('decode_builder_codes', `settled-${id}`, hex(transaction.input))
{
  const accepts = [{ scheme: 'exact', network: 'eip155:84532', amount: '1000', asset: '0x036CbD53842c5426634e7929541eC2318f3dCF7e', payTo: '0x90F79bf6EB2c4f870365E785982E1f101E93b906', maxTimeoutSeconds: 60, extra: {} }]
  const item = { resource: 'https://api.example.com/weather', type: 'http', x402Version: 2, accepts, lastUpdated: '2026-11-20T13:00:00Z' }
  seed('decode_discovery', 'list', JSON.stringify({ x402Version: 2, items: [item, { ...item, lastUpdated: 1763643600 }, 7], pagination: { limit: 20, offset: 0, total: 3 } }))
  seed('decode_discovery', 'search', JSON.stringify({ x402Version: 2, resources: [{ ...item, tags: ['a'], extensions: { bazaar: {} } }], partialResults: false, pagination: { limit: 1, cursor: '1' } }))
  seed('decode_discovery', 'search-null', JSON.stringify({ resources: [], pagination: null, partialResults: null }))
}
// The names of the document's parameters; what its facilitators accept in them.
seed('decode_catalog_query', 'list', 'type=http&payTo=0x90F79bf6EB2c4f870365E785982E1f101E93b906&scheme=exact&network=eip155%3A84532&extensions=bazaar,x&limit=20&offset=40')
seed('decode_catalog_query', 'search', 'query=weather+of%20K%C3%B6ln&network=eip155:8453&limit=500&cursor=20')
seed('decode_catalog_query', 'bounds', 'offset=10000&limit=100&type=mcp&other=1')
for (const { id, paymentPayload } of extensions['bazaar.facilitatorExtracts']) seed('decode_listing', `sdk-${id}`, JSON.stringify(paymentPayload))
