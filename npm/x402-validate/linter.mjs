// The linter around an instance of its WebAssembly module, for any surroundings: Node, browsers, workers. Requests and
// answers are JSON in the module's memory; src/lib.rs has the other half.

// Node 18 has the Web's cryptography in a module only.
const crypto = globalThis.crypto ?? (await import("node:crypto")).webcrypto;
const utf8 = new TextEncoder();
const text = new TextDecoder();

/** The bytes of a string or a view, as base64: a document may be no text. */
function base64(value) {
  const bytes = typeof value === "string" ? utf8.encode(value) : value;
  if (!(bytes instanceof Uint8Array)) throw new TypeError("expected a string or a Uint8Array");
  let out = "";
  for (let at = 0; at < bytes.length; at += 0x6000) out += btoa(String.fromCharCode(...bytes.subarray(at, at + 0x6000)));
  return out;
}

/** The text of a document: strings and bytes stand for themselves, other values for their JSON. */
function document(value) {
  if (typeof value === "string" || value instanceof Uint8Array) return base64(value);
  const json = JSON.stringify(value);
  if (json === undefined) throw new TypeError("expected a document: a string, a Uint8Array or a value of JSON");
  return base64(json);
}

/** Pairs of name and value; a value of a list is there once for each element. Header values are Latin-1 on the wire. */
function pairs(headers) {
  const entries = typeof headers?.[Symbol.iterator] === "function" ? [...headers] : Object.entries(headers ?? {});
  const wire = (value) => (typeof value === "string" && /^[\x00-\xff]*$/.test(value) ? Uint8Array.from(value, (c) => c.charCodeAt(0)) : value);
  return entries.flatMap(([name, values]) => (Array.isArray(values) ? values : [values]).map((value) => [name, base64(wire(value))]));
}

/** Makes the linter of an instance that has the exports of x402_validate.wasm. */
export function linter({ memory, input, run, output }) {
  function call(request) {
    const bytes = utf8.encode(JSON.stringify(request));
    const address = input(bytes.length);
    if (address === 0) throw new RangeError("the document is longer than the linter reads");
    new Uint8Array(memory.buffer, address, bytes.length).set(bytes);
    const length = run();
    const answer = JSON.parse(text.decode(new Uint8Array(memory.buffer, output(), length)));
    if (answer && answer.fault !== undefined) throw new TypeError(answer.fault);
    return answer;
  }
  return {
    lint: (value, options = {}) => call({ call: "lint", document: document(value), options }),
    lintAnswer: ({ status, url, headers, body = "" }, options = {}) =>
      call({ call: "lintAnswer", status: status ?? null, url: url ?? null, headers: pairs(headers), body: document(body), options }),
    explain: (code) => call({ call: "explain", code }),
    codes: () => call({ call: "codes" }),
  };
}

/** What the module imports: random bits, for the seeds of its hash maps. */
const embedder = { random: () => crypto.getRandomValues(new Uint32Array(1))[0] };

/** Compiles the module from its bytes, a promise of them, or a Response. */
export async function load(source) {
  const found = await source;
  const bytes = typeof found?.arrayBuffer === "function" ? await found.arrayBuffer() : found;
  const { instance } = await WebAssembly.instantiate(bytes, { embedder });
  return linter(instance.exports);
}
