import { buildAddon, buildScript } from "../../.ci/setup.mjs";

/** What is packed must be of these sources; the debug addon does for showing that it is packed right. */
export default function setup(): void {
  buildAddon("dev");
  buildScript();
}
