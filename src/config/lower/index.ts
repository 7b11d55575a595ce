/** Resolved configuration → the plain JSON that the data plane compiles (`titan_core::config::raw::Config`). */
import { availableParallelism } from "node:os";
import type { HookPlan } from "../../hooks/plan.ts";
import type { HookInput } from "../../hooks/types.ts";
import { version } from "../../version.ts";
import { type Path, parsePath } from "../issue.ts";
import type { Config } from "../schema/root.ts";
import { compact, type Json, Lowering, type LoweringFinding, ms } from "./context.ts";
import { lowerListeners } from "./listeners.ts";
import { MiddlewareTable } from "./middleware.ts";
import { originOf } from "./origin.ts";
import { lowerRoutes } from "./routes.ts";
import { lowerUpstreams } from "./upstreams.ts";

export type { LoweringFinding } from "./context.ts";

/** The native configuration, what was found on the way, and the way back. */
export interface Lowered {
  native: Json;
  /** By the numbers that the native configuration has for them. */
  hooks: HookPlan[];
  findings: LoweringFinding[];
  /** Place in the native configuration → place in the resolved one. */
  origin(nativePath: string): Path;
}

/** Lowers a resolved configuration; relative files start from `base`. Ports that the sugar leaves open are filled in in `config`. */
export function lower(config: Config, base: string, hooks: ReadonlyMap<string, HookInput>, broken = false): Lowered {
  const cx = new Lowering(config, base, config.server?.workers || availableParallelism(), broken);
  const { listeners, origins } = cx.part(() => lowerListeners(cx), { listeners: [], origins: [] });
  const upstreams = lowerUpstreams(cx);
  const table = new MiddlewareTable(cx, hooks);
  const { routes, global } = lowerRoutes(cx, table);
  if (broken) return { native: {}, hooks: [], findings: cx.findings, origin: parsePath };
  const { server, logging, metrics, health, dns } = config;
  const native = compact({
    version,
    workers: server.workers,
    listeners,
    upstreams,
    routes,
    policies: table.policies,
    global,
    trusted_proxies: server.trusted_proxies,
    forwarding: compact({
      x_forwarded: server.forwarding.x_forwarded,
      forwarded: server.forwarding.forwarded,
      // `null` says "none" where leaving the field out would mean the default.
      via: server.forwarding.via === "" ? null : server.forwarding.via,
      request_id: server.forwarding.request_id_header === "" ? null : server.forwarding.request_id_header.toLowerCase(),
      id_pattern: server.forwarding.id_pattern,
      correlation_id: server.forwarding.correlation_id_header.toLowerCase() || undefined,
      server_timing: server.forwarding.server_timing,
      trace_context: server.forwarding.trace_context,
    }),
    access_log: logging.log_requests
      ? {
          format:
            logging.format === "auto"
              ? logging.output === "stdout" && process.stdout.isTTY === true
                ? "text"
                : "json"
              : logging.format,
          fields: logging.fields,
          exclude_paths: logging.exclude_paths,
          sample: logging.sample,
          output: logging.output === "stdout" || logging.output === "stderr" ? logging.output : cx.file(logging.output),
          rotate_bytes: logging.rotation ? Math.round(logging.rotation.max_size_mb * 1_048_576) : 0,
          rotate_files: logging.rotation?.max_files ?? 0,
        }
      : undefined,
    builtin: { internal_cidrs: metrics.allow, health_paths: health.paths, critical: health.critical },
    dns: {
      servers: dns.servers.map((text) => (/:\d+$/.test(text) && !text.endsWith("]") ? text : `${text}:53`)),
      min_ttl_ms: ms(dns.min_ttl),
      max_ttl_ms: ms(dns.max_ttl),
      timeout_ms: ms(dns.timeout),
    },
    max_buffered: server.max_buffered_size,
    shutdown_delay_ms: ms(server.shutdown_delay),
    shutdown_timeout_ms: ms(server.shutdown_timeout),
  });
  return {
    native,
    hooks: table.hooks.plans,
    findings: cx.findings,
    origin: (path) => originOf(path, config, origins, table.origins),
  };
}
