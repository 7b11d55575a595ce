// `npm run test:safety`: the whole safety suite in its longer form, against a Titan built from the sources. Arguments go to vitest.
import { spawnSync } from "node:child_process";
import { buildAddon, buildScript, installPackages, needNode, root } from "../../.ci/setup.mjs";

needNode();
installPackages();
buildAddon("release");
buildScript();
const argv = [
  "--no-install",
  "vitest",
  "run",
  "--dir",
  "tests/safety",
  "--testTimeout",
  "180000",
  ...process.argv.slice(2),
];
const { status } = spawnSync("npx", argv, {
  cwd: root,
  stdio: "inherit",
  env: { ...process.env, TITAN_SAFETY: "long" },
});
process.exitCode = status ?? 1;
