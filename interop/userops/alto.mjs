// The bundler alto, on loopback.
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { ENTRY_POINT } from "./chain.mjs";
import { privateKey, start } from "./lib.mjs";

/** A port that nobody uses. Alto takes no port 0. */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export async function startAlto(rpc) {
  const port = await freePort();
  const package_ = createRequire(import.meta.url).resolve("@pimlico/alto");
  const args = [
    join(dirname(package_), "../esm/cli/alto.js"),
    ["--entrypoints", ENTRY_POINT],
    ["--rpc-url", rpc],
    ["--port", String(port)],
    ["--executor-private-keys", privateKey(7)],
    ["--utility-private-key", privateKey(8)],
    ["--safe-mode", "false"],
    ["--min-executor-balance", "0"],
    ["--block-time", "100"],
    ["--max-bundle-interval", "200"],
    ["--json", "true"],
  ].flat();
  const read = (line) => (line.includes("Server listening") || line.includes("listening on") ? { url: `http://127.0.0.1:${port}` } : undefined);
  return start(process.execPath, args, { read, name: "alto", seconds: 90 });
}
