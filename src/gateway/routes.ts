import type { NativeConfig } from "../config/index.ts";
import type { RouteRow } from "./types.ts";

/** What of the native configuration the routing table shows. */
interface NativeRoute {
  name: string;
  match: { path: string; hosts?: string[]; methods?: string[] };
  priority?: number;
  action:
    | { type: "proxy"; targets: { upstream: string; weight?: number }[] }
    | { type: "redirect"; status: number; location: string }
    | { type: "fixed"; status: number };
  policies?: number[];
}

/** The routing table of a configuration, in the order of the file. */
export function routeRows(native: NativeConfig): RouteRow[] {
  const policies = (native.policies ?? []) as { name: string }[];
  return ((native.routes ?? []) as NativeRoute[]).map((route) => ({
    name: route.name,
    methods: route.match.methods ?? [],
    hosts: route.match.hosts ?? [],
    path: route.match.path,
    priority: route.priority ?? 0,
    to: destination(route.action),
    policies: (route.policies ?? []).flatMap((index) => policies[index]?.name ?? []),
  }));
}

function destination(action: NativeRoute["action"]): string {
  if (action.type === "redirect") return `${action.status} ${action.location}`;
  if (action.type === "fixed") return String(action.status);
  const [only, second] = action.targets;
  if (only && !second) return only.upstream;
  return action.targets.map(({ upstream, weight }) => `${upstream}:${weight ?? 1}`).join(" ");
}
