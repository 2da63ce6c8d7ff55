// Our binaries as processes.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { need } from "./lib.mjs";

/** Runs one of our binaries with this on its standard input. */
export function ours(name, args, env = {}, input = "") {
  const path = need(name);
  if (!existsSync(path)) throw new Error(`${name}: ${path} does not exist`);
  const child = spawn(path, args, { env: { ...process.env, ...env } });
  const out = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"]) child[stream].on("data", (chunk) => (out[stream] += chunk));
  const timer = setTimeout(() => child.kill("SIGKILL"), 90_000);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      clearTimeout(timer);
      if (code === 0) resolve(out.stdout.trim());
      else reject(new Error(`${name} ends with ${code}: ${out.stderr.trim().slice(0, 1000)}`));
    });
    child.stdin.on("error", () => {});
    child.stdin.end(input);
  });
}
