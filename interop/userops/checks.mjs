// Checks by name, and their count.
const result = { passed: 0, failed: 0 };

/** Runs one check; what it throws is its failure. */
export async function attempt(name, what) {
  try {
    await what();
    result.passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    result.failed += 1;
    console.log(`FAIL  ${name}\n      ${String(error.cause?.message ?? error.message).trim().slice(0, 3000).replaceAll("\n", "\n      ")}`);
  }
}

/** The closing line; ends this process with exit code 1 where a check failed or none was made. */
export function finish() {
  console.log(`${result.passed} passed, ${result.failed} failed`);
  process.exit(result.failed === 0 && result.passed > 0 ? 0 : 1);
}
