// Compiles every contract beside this file, in kernel/, in permit2/ and in tokens/ into artifacts/, each under its own name. `--check` writes nothing and exits 1 where an artifact differs.
// The compiler is looked up from this directory first, then from the one that SOLC_DIR names, so CI can install it elsewhere.
import { createRequire } from "node:module";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const pinned = JSON.parse(readFileSync(join(here, "package.json"), "utf8")).dependencies.solc;
const solc = createRequire(process.env.SOLC_DIR ? join(process.env.SOLC_DIR, "package.json") : import.meta.url)("solc");
if (!solc.version().startsWith(`${pinned}+`)) {
  console.error(`solc ${pinned} is pinned, found ${solc.version()}`);
  process.exit(1);
}

const settings = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
  viaIR: true,
};
const files = ["", "kernel/", "permit2/", "tokens/"]
  .flatMap((folder) => readdirSync(join(here, folder)).map((name) => folder + name))
  .filter((name) => name.endsWith(".sol"))
  .sort();
const output = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: "Solidity",
      sources: Object.fromEntries(files.map((name) => [name, { content: readFileSync(join(here, name), "utf8") }])),
      settings: {
        ...settings,
        outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
      },
    }),
  ),
);
for (const { formattedMessage } of output.errors ?? []) console.error(formattedMessage);
if (output.errors?.length) process.exit(1);

let differs = false;
mkdirSync(join(here, "artifacts"), { recursive: true });
for (const file of files) {
  for (const [contract, built] of Object.entries(output.contracts[file] ?? {})) {
    // An interface, an abstract contract or a library whose functions are all internal: nothing to put on a chain.
    if (!built.evm.deployedBytecode.object || built.abi.every(({ type }) => type === "error")) continue;
    const artifact = {
      contract,
      source: `contracts/${file}`,
      license: readFileSync(join(here, file), "utf8").match(/SPDX-License-Identifier: (.*)/)[1],
      solc: solc.version(),
      settings,
      abi: built.abi,
      bytecode: `0x${built.evm.bytecode.object}`,
      deployedBytecode: `0x${built.evm.deployedBytecode.object}`,
    };
    const path = join(here, "artifacts", `${contract}.json`);
    const text = `${JSON.stringify(artifact, null, 1)}\n`;
    if (!process.argv.includes("--check")) {
      writeFileSync(path, text);
      console.log(`${contract}: ${(built.evm.deployedBytecode.object.length / 2)} bytes`);
    } else if (!existsSync(path) || readFileSync(path, "utf8") !== text) {
      console.error(`artifacts/${contract}.json differs from ${file}`);
      differs = true;
    }
  }
}
process.exit(differs ? 1 : 0);
