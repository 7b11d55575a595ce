// `npm pack` in a checkout: builds what the tarball holds. It carries the addon of this machine, so that it installs without a registry;
// the packages of a release are made by `npm run pack`, without it.
import { buildAddon, buildTypes, installPackages, needNode } from "./setup.mjs";

needNode();
installPackages();
buildAddon("release");
buildTypes();
