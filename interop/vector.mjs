// Writes one recorded message into the directory that the recorder's command line names.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const directory = process.argv[2];
if (!directory) throw new Error("usage: record.mjs DIRECTORY");
mkdirSync(directory, { recursive: true });

/** `type`: the Rust type that reads it. `header`: the base64 text that it came in, if it came in a header. */
export function write(name, type, software, how, { json, header }) {
  const value = json ?? JSON.parse(Buffer.from(header, "base64").toString("utf8"));
  const vector = { type, software, how, ...(header && { header }), json: value };
  writeFileSync(join(directory, `${name}.json`), `${JSON.stringify(vector, null, 2)}\n`);
}
