import { buildScript } from "../../.ci/setup.mjs";

/** Tests of the command run `dist/`, as a user does: it must be of these sources. */
export default function setup(): void {
  buildScript();
}
