// The directions of the interop test: every combination of client, server and facilitator in which one role is ours.
import { matrix, typescript } from "./matrix.mjs";
import { rust } from "./rust.mjs";

const ours = (...roles) => roles.includes(rust);
process.exit((await matrix([typescript, rust], ours)) ? 0 : 1);
