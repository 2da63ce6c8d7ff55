// Takes the bytecode in third-party/ out of the npm packages that it comes from, and writes the README beside it.
// `--check` writes nothing and exits 1 where a file differs. Tarballs are kept in the directory that PACKAGES_DIR names.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = join(dirname(fileURLToPath(import.meta.url)), "third-party");
const packages = process.env.PACKAGES_DIR ?? mkdtempSync(join(tmpdir(), "x402-packages-"));

const artifact = (path) => (read) => JSON.parse(read(path)).bytecode;
const constant = (path, pattern) => (read) => `0x${read(path).match(pattern)[1]}`;
const modulekit = (name) => constant("src/deployment/precompiles/KernelPrecompiles.sol", new RegExp(`constant ${name} =\\s*hex"([0-9a-f]+)"`));

// Packages by name and version, with the tarball's hash and the licence in its package.json.
const SOURCES = [
  {
    package: "@account-abstraction/contracts@0.6.0",
    sha512: "8ooRJuR7XzohMDM4MV34I12Ci2bmxfE9+cixakRL7lA4BAwJKQ3ahvd8FbJa9kiwkUPCUNtj+/zxDQWYYalLMQ==",
    license: "MIT",
    files: [{ file: "EntryPoint-0.6.0", code: artifact("artifacts/EntryPoint.json"), license: "GPL-3.0" }],
  },
  {
    package: "@account-abstraction/contracts@0.7.0",
    sha512: "Bt/66ilu3u8I9+vFZ9fTd+cWs55fdb9J5YKfrhsrFafH1drkzwuCSL/xEot1GGyXXNJLQuXbMRztQPyelNbY1A==",
    license: "MIT",
    files: [
      { file: "EntryPoint-0.7.0", code: artifact("artifacts/EntryPoint.json"), license: "GPL-3.0" },
      { file: "VerifyingPaymaster-0.7.0", code: artifact("artifacts/VerifyingPaymaster.json"), license: "GPL-3.0" },
    ],
  },
  {
    package: "@account-abstraction/contracts@0.8.0",
    sha512: "8krPx/gpnoT+5xAroagVCbeA7FbUigMZWXFKKPm+oghyr29Dksssdx5sI7xGv9212i4JPaDDUGFk58dpuwVgHA==",
    license: "MIT",
    files: [
      { file: "EntryPoint-0.8.0", code: artifact("artifacts/EntryPoint.json"), license: "GPL-3.0" },
      { file: "Simple7702Account-0.8.0", code: artifact("artifacts/Simple7702Account.json"), license: "MIT" },
    ],
  },
  {
    package: "@account-abstraction/contracts@0.9.0-rc.1",
    sha512: "NEii5cuCEJaQ0ZUPAh6JtP/yuozLX4k9BJVu7ytX0QAjc4cT038H0fN0lAO129ou/Uwabj5xY9X+z06ChM3p7A==",
    license: "MIT",
    files: [
      { file: "EntryPoint-0.9.0-rc.1", code: artifact("artifacts/EntryPoint.json"), license: "GPL-3.0" },
      { file: "Simple7702Account-0.9.0-rc.1", code: artifact("artifacts/Simple7702Account.json"), license: "MIT" },
    ],
  },
  {
    package: "@rhinestone/modulekit@0.5.9",
    sha512: "Zc5Qo3dkyVhBo7OQRKOltYd+jlGCtV18TWSmpSvIdXKwUgo5xj8zL73wAwFKTww00zt/wXMbW6Z6ysIQWH3Ezw==",
    license: "GPL-3.0",
    files: [
      { file: "Kernel-0.3.1", code: modulekit("KERNEL_BYTECODE"), license: "MIT" },
      { file: "KernelFactory-0.3.1", code: modulekit("KERNEL_FACTORY_BYTECODE"), license: "MIT" },
    ],
  },
  {
    package: "@safe-global/safe-contracts@1.4.1",
    sha512: "fP1jewywSwsIniM04NsqPyVRFKPMAuirC3ftA/TA4X3Zc5EnwQp/UCJUU2PL/37/z/jMo8UUaJ+pnFNWmMU7dQ==",
    license: "LGPL-3.0",
    files: [
      { file: "Safe-1.4.1", code: artifact("build/artifacts/contracts/Safe.sol/Safe.json"), license: "LGPL-3.0-only" },
      {
        file: "SafeProxyFactory-1.4.1",
        code: artifact("build/artifacts/contracts/proxies/SafeProxyFactory.sol/SafeProxyFactory.json"),
        license: "LGPL-3.0-only",
      },
    ],
  },
  {
    package: "@safe-global/safe-4337@0.3.0",
    sha512: "PL/+GrMwfyvRru1rhDwWVMXmHqzc8afa67cUOt1CGwSmbuFzamQGSPMxt9sX4Esmoyh7ICrO5lauPWPYp1Ei1Q==",
    license: "GPL-3.0",
    files: [
      {
        file: "Safe4337Module-0.3.0",
        code: artifact("build/artifacts/contracts/Safe4337Module.sol/Safe4337Module.json"),
        license: "LGPL-3.0-only",
      },
      {
        file: "SafeModuleSetup-0.3.0",
        code: artifact("build/artifacts/contracts/SafeModuleSetup.sol/SafeModuleSetup.json"),
        license: "LGPL-3.0-only",
      },
    ],
  },
  {
    package: "@uniswap/v4-periphery@1.0.3",
    sha512: "JxLL0Djv9XcMvI2PatEnWrCrxuEaYNVhHxstndBOP+aJfh1XLg5ec8SDZ0xyoVfg2ElJTvuKpBgnu90bNValsg==",
    license: "MIT",
    files: [
      {
        file: "Permit2",
        code: constant("lib/permit2/test/utils/DeployPermit2.sol", /hex"([0-9a-f]+)"/),
        license: "MIT",
      },
    ],
  },
  {
    package: "viem@2.57.1",
    sha512: "eOV3fHnaMzkIFRefZg1icWztAKvBHg7RMKEH89ywY7hnyq1VxI4s/osXnTBViOsEZ7/LbbxU3w+JaIrbeIXRPQ==",
    license: "MIT",
    files: [
      {
        file: "Multicall3",
        code: constant("constants/contracts.ts", /multicall3Bytecode =\s*'0x([0-9a-f]+)'/),
        license: "MIT",
      },
    ],
  },
];

const sha = (name, bytes, encoding) => createHash(name).update(bytes).digest(encoding);

function reader({ package: name, sha512 }) {
  const tarball = join(packages, `${name.replace(/^@/, "").replace(/[/@]/g, "-")}.tgz`);
  if (!existsSync(tarball)) {
    mkdirSync(packages, { recursive: true });
    execFileSync("npm", ["pack", "--silent", "--pack-destination", packages, name], { stdio: ["ignore", "ignore", "inherit"] });
  }
  if (sha("sha512", readFileSync(tarball), "base64") !== sha512) throw new Error(`${tarball} is not the pinned ${name}`);
  return (path) => execFileSync("tar", ["-xzOf", tarball, `package/${path}`], { maxBuffer: 1 << 26 }).toString();
}

const written = new Map();
const rows = [];
for (const source of SOURCES) {
  const read = reader(source);
  for (const { file, code, license } of source.files) {
    const bytes = Buffer.from(code(read).slice(2), "hex");
    written.set(`${file}.bin`, bytes);
    rows.push(`| \`${file}.bin\` | \`${source.package}\` | ${license} | ${source.license} | \`${sha("sha256", bytes, "hex")}\` |`);
  }
}
written.set(
  "README.md",
  Buffer.from(`# Contracts of others

Code that x402-devchain puts on its chain, creation code unless it says otherwise, for development and tests only; nothing else of this workspace has any of it.
It is no work of this project and stays under its own licences. \`node third-party.mjs\` in the folder above takes the files
out of the npm packages named here and writes this page; \`--check\` compares.

| File | npm package | Licence of its source | Licence that the package names | SHA-256 |
|---|---|---|---|---|
${rows.join("\n")}

- \`Kernel\` and \`KernelFactory\` stand as constants in a source file of modulekit that says MIT; the contracts are ZeroDev's (MIT). This Kernel was
  compiled with other settings than the deployed one, and is larger than a network lets a contract be.
- \`EntryPoint-0.9.0-rc.1\` and \`Simple7702Account-0.9.0-rc.1\` are of a release candidate; the final 0.9 is on no registry.
- \`Permit2\` is runtime code, a constant in a helper of Permit2's own tests: Uniswap Labs' contract (MIT) as it stands on Ethereum. It keeps
  that chain's domain separator, and computes that of any other chain at each call.
- \`Multicall3\` is a constant in viem; the contract is by its authors, MIT.
`),
);

let differs = false;
if (!process.argv.includes("--check")) {
  mkdirSync(folder, { recursive: true });
  for (const [file, bytes] of written) writeFileSync(join(folder, file), bytes);
} else {
  for (const file of new Set([...written.keys(), ...readdirSync(folder)])) {
    const path = join(folder, file);
    if (!written.has(file) || !existsSync(path) || !readFileSync(path).equals(written.get(file))) {
      console.error(`third-party/${file} is not what the packages hold`);
      differs = true;
    }
  }
}
process.exit(differs ? 1 : 0);
