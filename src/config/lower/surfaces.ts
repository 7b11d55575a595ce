/** `surfaces` and `surfaces_file` → the rate limit of a route that belongs to one. */
import { readFileSync } from "node:fs";
import type { OutputOf } from "../kit/index.ts";
import type { rateLimit, surface } from "../schema/middleware.ts";
import type { Lowering } from "./context.ts";
import type { Use } from "./middleware.ts";

type Surface = OutputOf<typeof surface>;
type RateLimit = OutputOf<typeof rateLimit>;

/** What a surface's limit has where there is no global one to take it from. */
const ALONE: RateLimit = {
  enabled: true,
  algorithm: "token_bucket",
  key: ["client_ip"],
  max_keys: 100_000,
  limits: [],
  cost: 1,
  headers: true,
  draft_headers: false,
  backend: "local",
};

/** Surfaces by id, each with one use, so that all routes of a surface count together. */
export class SurfaceTable {
  readonly #uses = new Map<string, Use>();

  constructor(cx: Lowering, global: RateLimit | undefined) {
    const { surfaces, surfaces_file: name } = cx.config;
    for (const [i, item] of surfaces.entries()) {
      if (item?.surface_id === undefined) continue;
      if (this.#uses.has(item.surface_id))
        cx.error("duplicate_name", ["surfaces", i], `two surfaces are named ${JSON.stringify(item.surface_id)}`);
      this.#uses.set(item.surface_id, use(item, global, ["surfaces", i]));
    }
    if (name === undefined) return;
    for (const item of fromFile(cx, name)) {
      // What the configuration itself says wins.
      if (!this.#uses.has(item.surface_id)) this.#uses.set(item.surface_id, use(item, global, ["surfaces_file"]));
    }
  }

  get(id: string): Use | undefined {
    return this.#uses.get(id);
  }

  get ids(): string[] {
    return [...this.#uses.keys()];
  }
}

/** The surface's figures; how and where is counted is that of the global limit. */
function use(item: Surface, global: RateLimit | undefined, path: Use["path"]): Use {
  const { requests: _, window: __, tiers: ___, ...how } = global ?? ALONE;
  const name = `surface.${item.surface_id}`;
  const config: RateLimit = {
    ...how,
    limits: [],
    requests_per_second: item.rate_limit_rps,
    burst: item.rate_limit_burst ?? Math.max(1, Math.ceil(item.rate_limit_rps * 2)),
    group: name.slice(0, 64),
  };
  return { type: "rate_limit", config, name, path, enabled: true };
}

function fromFile(cx: Lowering, name: string): Surface[] {
  const fail = (code: string, message: string): Surface[] => {
    cx.error(code, ["surfaces_file"], message);
    return [];
  };
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(cx.file(name), "utf8"));
  } catch (error) {
    return fail("not_readable", `${JSON.stringify(name)} can't be read as JSON: ${(error as Error).message}`);
  }
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const found: Surface[] = [];
  for (const [i, item] of list.entries()) {
    const { surface_id: id, rate_limit_rps: rps, rate_limit_burst: burst } = (item ?? {}) as Record<string, unknown>;
    const positive = (what: unknown): what is number => typeof what === "number" && Number.isFinite(what) && what > 0;
    if (typeof id !== "string" || id === "" || !positive(rps) || !(burst === undefined || positive(burst))) {
      return fail(
        "wrong_type",
        `${JSON.stringify(name)}, item ${i + 1}: a surface is {"surface_id", "rate_limit_rps", "rate_limit_burst"} with positive figures`,
      );
    }
    found.push({
      surface_id: id,
      rate_limit_rps: rps,
      ...(burst !== undefined && { rate_limit_burst: Math.ceil(burst) }),
    });
  }
  return found;
}
