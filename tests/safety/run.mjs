// `npm run test:safety`: the whole safety suite in its longer form, against a Titan built from the sources. Arguments go to vitest.
import { spawnSync } from "node:child_process";
import { buildAddon, buildScript, installPackages, needNode, root } from "../../.ci/setup.mjs";

needNode();
installPackages();
buildAddon("release");
buildScript();
// A first argument that is no option names the files: `npm run test:safety -- slow`.
const [first = "", ...rest] = process.argv.slice(2);
const files = first.startsWith("-") ? "" : first;
const argv = ["--no-install", "vitest", "run", `tests/safety/${files}`, "--testTimeout", "180000"];
argv.push(...(files === first ? rest : [first, ...rest]));
const { status } = spawnSync("npx", argv, {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, TITAN_SAFETY: "long" },
});
process.exitCode = status ?? 1;
