// Copies the addon that cargo built for a target to the name that its package has: `--target TRIPLE --out DIR [--profile dist]`.
import { copyFileSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { platformOf, root } from "./platforms.mjs";

const { values } = parseArgs({
  options: {
    target: { type: "string" },
    out: { type: "string", default: "addons" },
    profile: { type: "string", default: "dist" },
  },
});
if (!values.target) throw new Error("--target is missing");
const platform = platformOf(values.target);
const library = { win32: "titan_napi.dll", darwin: "libtitan_napi.dylib" }[platform.os] ?? "libtitan_napi.so";
mkdirSync(resolve(values.out), { recursive: true });
copyFileSync(join(root, "target", values.target, values.profile, library), join(resolve(values.out), platform.file));
process.stdout.write(`${join(values.out, platform.file)}\n`);
