// Headless Chromium over its debugging pipe: no package, no port. https://chromedevtools.github.io/devtools-protocol/
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Starts the browser with one page of this width. `X402_CHROMIUM` names the binary.
export async function chromium(width, height) {
  const profile = mkdtempSync(join(tmpdir(), "x402-chromium-"));
  const flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--remote-debugging-pipe", `--user-data-dir=${profile}`, `--window-size=${width},${height}`, "about:blank"];
  const child = spawn(process.env.X402_CHROMIUM ?? "chromium", flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const [input, output] = [child.stdio[3], child.stdio[4]];
  const [waiting, events, errors] = [new Map(), [], []];
  let rest = "";
  output.setEncoding("utf8").on("data", (text) => {
    const parts = (rest + text).split("\0");
    rest = parts.pop();
    for (const part of parts) {
      const message = JSON.parse(part);
      if (message.id) {
        const { resolve, reject } = waiting.get(message.id);
        waiting.delete(message.id);
        message.error ? reject(new Error(message.error.message)) : resolve(message.result);
      } else {
        events.push(message);
        if (message.method === "Runtime.exceptionThrown") errors.push(message.params.exceptionDetails.text);
        if (message.method === "Log.entryAdded" && message.params.entry.level === "error") errors.push(message.params.entry.text);
      }
    }
  });
  const gone = new Promise((_, reject) => {
    child.on("error", (error) => reject(new Error(`chromium: ${error.message}`)));
    child.on("exit", (code) => reject(new Error(`chromium ended with ${code}`)));
  });
  gone.catch(() => {});
  let last = 0, session;
  const call = (method, params = {}) => {
    last += 1;
    const answer = new Promise((resolve, reject) => waiting.set(last, { resolve, reject }));
    input.write(JSON.stringify({ id: last, method, params, ...(session ? { sessionId: session } : {}) }) + "\0");
    return Promise.race([answer, gone]);
  };
  const { targetId } = await call("Target.createTarget", { url: "about:blank" });
  session = (await call("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Log"]) await call(`${domain}.enable`);
  await call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });

  const value = async (expression) => {
    const { result, exceptionDetails } = await call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  };
  return {
    errors,
    value,
    open: (url) => call("Page.navigate", { url }),
    // Waits for a state of the page, for 20 s at most.
    until: async (expression) => {
      const end = Date.now() + 20_000;
      for (;;) {
        const found = await value(expression).catch(() => false);
        if (found) return found;
        if (Date.now() > end) throw new Error(`never true: ${expression}\n${await value("document.body.innerText")}\n${errors.join("\n")}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    type: (text) => call("Input.insertText", { text }),
    press: async (key) => {
      const code = { Tab: 9, Enter: 13 }[key];
      const text = key === "Enter" ? { text: "\r" } : {};
      await call("Input.dispatchKeyEvent", { type: "keyDown", key, code: key, windowsVirtualKeyCode: code, ...text });
      await call("Input.dispatchKeyEvent", { type: "keyUp", key, code: key, windowsVirtualKeyCode: code });
    },
    picture: async () => Buffer.from((await call("Page.captureScreenshot", { captureBeyondViewport: true })).data, "base64"),
    close: async () => {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill();
      await ended;
      rmSync(profile, { recursive: true, force: true });
    },
  };
}
