// The scripts proven against themselves: TypeScript client, server and facilitator on anvil.
import { matrix, typescript } from "./matrix.mjs";

process.exit((await matrix([typescript])) ? 0 : 1);
