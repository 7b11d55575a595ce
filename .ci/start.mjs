// `npm start`: set up whatever is missing, then serve the embedded default. Arguments after `--` go to `titan serve`.
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { buildAddon, buildScript, installPackages, needNode, root } from "./setup.mjs";

needNode();
installPackages();
buildAddon("release");
buildScript();

process.argv = [process.argv[0], "titan", "serve", ...process.argv.slice(2)];
await import(pathToFileURL(join(root, "dist/cli/main.js")).href);
