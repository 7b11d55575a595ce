import { createRequire } from "node:module";

declare const __TITAN_VERSION__: string | undefined;

/** Version of this package. The bundle has it built in; from source it is read from package.json. */
export const version: string =
  typeof __TITAN_VERSION__ === "undefined"
    ? (createRequire(import.meta.url)("../package.json") as { version: string }).version
    : __TITAN_VERSION__;
