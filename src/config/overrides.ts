/** `TITAN_*` variables that win over the configuration. */
import type { Path } from "./issue.ts";
import { Interpolated, isObject, type ObjectSchema } from "./kit/index.ts";
import { admin, logging } from "./schema/observability.ts";
import { server } from "./schema/server.ts";

/** One override. */
interface Override {
  variable: string;
  path: readonly [string, string];
  /** Other places that say the same. */
  aliases: readonly (readonly [string, string])[];
  doc: string;
  words?: Readonly<Record<string, string>>;
}

// biome-ignore lint/suspicious/noExplicitAny: any object of the schema
function aliasesOf(block: string, schema: ObjectSchema<any>, key: string): (readonly [string, string])[] {
  return Object.entries(schema.rules.aliases ?? {})
    .filter(([, target]) => target === key)
    .map(([alias]) => [block, alias] as const);
}

/** Every override, in the order of the reference page. */
export const OVERRIDES: readonly Override[] = [
  {
    variable: "TITAN_WORKERS",
    path: ["server", "workers"],
    aliases: aliasesOf("server", server, "workers"),
    doc: "`server.workers`; `auto` = one for each CPU.",
    words: { auto: "0" },
  },
  {
    variable: "TITAN_LOG_LEVEL",
    path: ["logging", "level"],
    aliases: [...aliasesOf("logging", logging, "level"), ["server", "log_level"]],
    doc: "`logging.level`, in any letter case; `warning` = `warn`.",
  },
  {
    variable: "TITAN_HOST",
    path: ["server", "host"],
    aliases: aliasesOf("server", server, "host"),
    doc: "`server.host`.",
  },
  {
    variable: "TITAN_PORT",
    path: ["server", "port"],
    aliases: aliasesOf("server", server, "port"),
    doc: "`server.port`.",
  },
  {
    variable: "TITAN_ADMIN_TOKEN",
    path: ["admin", "token"],
    aliases: aliasesOf("admin", admin, "token"),
    doc: "`admin.token`.",
  },
];

/** The value with overrides put in, and which variable each overridden path came from. */
export function applyOverrides(
  value: Record<string, unknown>,
  env: Readonly<Record<string, string | undefined>>,
): { value: Record<string, unknown>; origins: Map<string, string> } {
  const origins = new Map<string, string>();
  let out = value;
  for (const { variable, path, aliases, words } of OVERRIDES) {
    const given = env[variable];
    if (given === undefined || given === "") continue;
    out = { ...out };
    const forget = (place: Path) => {
      const [block, key] = place as [string, string];
      if (!isObject(out[block]) || !Object.hasOwn(out[block], key)) return;
      const copy = { ...out[block] };
      delete copy[key];
      out[block] = copy;
    };
    for (const alias of aliases) forget(alias);
    const [block, key] = path;
    // A block of the wrong type is left for validation to refuse.
    if (out[block] !== undefined && !isObject(out[block])) continue;
    out[block] = {
      ...(out[block] as Record<string, unknown> | undefined),
      [key]: new Interpolated(words?.[given.toLowerCase()] ?? given),
    };
    origins.set(path.join("."), variable);
  }
  return { value: out, origins };
}
