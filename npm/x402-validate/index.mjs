// The linter, ready to be called: the module is compiled once, when this one is imported.
import { load } from "./linter.mjs";

const url = new URL("./x402_validate.wasm", import.meta.url);
const bytes = url.protocol === "file:" ? (await import("node:fs/promises")).readFile(url) : fetch(url);

export const { lint, lintAnswer, explain, codes } = await load(bytes);
