/**
 * Which policies run on which route.
 *
 * A *slot* is what replaces what: a route's middleware takes the place of the global one in its slot. All ways to authenticate share one
 * slot, because "who is it" has one answer; those listed together are alternatives.
 */
import type { HookInput } from "../../hooks/types.ts";
import type { Path } from "../issue.ts";
import type { OutputOf } from "../kit/index.ts";
import type { AUTH_MODES } from "../schema/auth.ts";
import type { MIDDLEWARE, middleware } from "../schema/middleware.ts";
import { lowerAuth, lowerAuthorize, type Method } from "./auth.ts";
import type { Json, Lowering } from "./context.ts";
import { HookTable, type HookUse } from "./hooks.ts";
import type { PolicyOrigin } from "./origin.ts";
import { lowerPolicy, type PolicyType } from "./policies.ts";
import { SurfaceTable } from "./surfaces.ts";

type Type = keyof typeof MIDDLEWARE;
type Middleware = OutputOf<typeof middleware>;
type Mode = (typeof AUTH_MODES)[number];

/** A middleware at a place of the configuration. */
export interface Use {
  type: Type;
  config: Middleware["config"];
  /** Of the policy: metrics label and key of its state across reloads. */
  name: string;
  /** Of its settings. */
  path: Path;
  enabled: boolean;
}

/** What one route (or the whole gateway) asks for in a slot. */
export interface Slots {
  /** Everything but authentication. */
  uses: Map<Type, Use>;
  /** `undefined` = says nothing; an empty list = none. */
  auth: { methods: { method: Method; use: Use }[]; anonymous: boolean } | undefined;
  /** In the order in which they run. */
  hooks: HookUse[];
}

const AUTH_TYPES: ReadonlySet<Type> = new Set<Type>(["auth", "jwt", "apikey", "basic", "mtls"]);

/** Top-level blocks that are global middleware. */
const BLOCKS = [
  "ip_filter",
  "rate_limit",
  "cors",
  "jwt",
  "apikey",
  "basic",
  "mtls",
  "transform",
  "compression",
] as const;
const NAMED = {
  rate_limits: "rate_limit",
  cors_configs: "cors",
  transform_configs: "transform",
  compression_configs: "compression",
} as const;

export class MiddlewareTable {
  readonly policies: Json[] = [];
  readonly origins: PolicyOrigin[] = [];
  readonly global: Slots;
  readonly hooks: HookTable;
  readonly #surfaces: SurfaceTable;
  readonly #hookIndices = new Map<HookUse, number | undefined>();
  readonly #cx: Lowering;
  readonly #named = new Map<string, Use>();
  readonly #indices = new Map<Use, readonly number[]>();
  readonly #auths = new Map<string, number>();
  readonly #authorizes = new Map<string, number>();
  readonly #ids = new Map<Use, number>();
  readonly #names = new Set<string>();

  constructor(cx: Lowering, used: ReadonlyMap<string, HookInput>) {
    this.#cx = cx;
    this.hooks = new HookTable(cx, used);
    this.#collectNamed();
    this.global = this.#collectGlobal();
    this.#surfaces = new SurfaceTable(
      cx,
      this.global.uses.get("rate_limit")?.config as OutputOf<(typeof MIDDLEWARE)["rate_limit"]> | undefined,
    );
  }

  #collectNamed(): void {
    const { config } = this.#cx;
    const add = (name: string, use: Use) => {
      const twin = this.#named.get(name);
      if (twin) this.#cx.error("duplicate_name", use.path, `two middleware are named ${JSON.stringify(name)}`);
      else this.#named.set(name, use);
    };
    for (const [name, item] of Object.entries(config.named_middleware)) {
      add(name, {
        type: item.type,
        config: item.config,
        name,
        path: ["named_middleware", name, "config"],
        enabled: on(item),
      });
    }
    for (const [block, type] of Object.entries(NAMED) as [keyof typeof NAMED, Type][]) {
      for (const [name, settings] of Object.entries(config[block]))
        add(name, { type, config: settings, name, path: [block, name], enabled: settings.enabled });
    }
    if (this.#named.size > 100)
      this.#cx.error("too_many", [], `there are ${this.#named.size} named middleware; at most 100 are possible`);
    const taken = new Set<string>();
    for (const [i, item] of config.middleware.entries()) {
      if (item?.name === undefined) continue;
      if (taken.has(item.name))
        this.#cx.error(
          "duplicate_name",
          ["middleware", i, "name"],
          `two global middleware are named ${JSON.stringify(item.name)}`,
        );
      taken.add(item.name);
      add(item.name, {
        type: item.type,
        config: item.config,
        name: item.name,
        path: ["middleware", i, "config"],
        enabled: on(item),
      });
    }
  }

  #collectGlobal(): Slots {
    const { config } = this.#cx;
    const uses: Use[] = [];
    for (const [i, item] of config.middleware.entries()) {
      if (item === undefined) continue;
      const known = item.name === undefined ? undefined : this.#named.get(item.name);
      uses.push(
        known ?? {
          type: item.type,
          config: item.config,
          name: `global.${item.type}`,
          path: ["middleware", i, "config"],
          enabled: on(item),
        },
      );
    }
    for (const type of BLOCKS) {
      const settings = config[type];
      if (settings === undefined) continue;
      const use: Use = { type, config: settings, name: `global.${type}`, path: [type], enabled: settings.enabled };
      uses.push(use);
      // A route may list the block by its type: `"middleware": ["jwt"]`.
      if (!this.#named.has(type)) this.#named.set(type, use);
    }
    return this.#slots(uses, "globally");
  }

  /** Sorts uses into slots: the first of a type wins, said with a warning. */
  #slots(uses: readonly Use[], where: string): Slots {
    const slots: Slots = { uses: new Map(), auth: undefined, hooks: [] };
    const seen = new Set<Type>();
    for (const use of uses) {
      if (!use.enabled) continue;
      if (seen.has(use.type)) {
        this.#cx.warn(
          "second_of_type",
          use.path,
          `a second ${use.type} ${where}: the first one runs, this one does not`,
        );
        continue;
      }
      seen.add(use.type);
      if (AUTH_TYPES.has(use.type)) this.#addAuth(slots, use);
      else slots.uses.set(use.type, use);
    }
    return slots;
  }

  #addAuth(slots: Slots, use: Use): void {
    slots.auth ??= { methods: [], anonymous: false };
    if (use.type !== "auth") {
      slots.auth.methods.push({ method: { type: use.type, config: use.config } as Method, use });
      return;
    }
    const block = use.config as OutputOf<(typeof MIDDLEWARE)["auth"]>;
    this.#addModes(slots, block.mode, use.path, (type) =>
      block[type]
        ? { type, config: block[type], name: `${use.name}.${type}`, path: [...use.path, type], enabled: true }
        : undefined,
    );
  }

  /** Modes (`jwt`, `both`, …) → methods, from blocks in place or at the top level. */
  #addModes(
    slots: Slots,
    modes: readonly Mode[],
    path: Path,
    inPlace: (type: Method["type"]) => Use | undefined,
  ): void {
    const auth = slots.auth ?? { methods: [], anonymous: false };
    slots.auth = auth;
    const add = (type: Method["type"], mode: Mode) => {
      if (auth.methods.some(({ method }) => method.type === type)) return;
      const use = inPlace(type) ?? this.#topLevel(type);
      if (use) auth.methods.push({ method: { type, config: use.config } as Method, use });
      else this.#cx.error("missing", path, `"${mode}" needs the block "${type}", which is missing or switched off`);
    };
    for (const mode of modes) {
      if (mode === "none") {
        if (modes.length > 1) this.#cx.error("contradiction", path, '"none" excludes every other mode');
      } else if (mode === "both") {
        add("jwt", mode);
        add("apikey", mode);
      } else if (mode === "anonymous") {
        auth.anonymous = true;
        if (modes.length > 1) continue;
        for (const type of ["jwt", "apikey", "basic", "mtls"] as const)
          if (inPlace(type) ?? this.#topLevel(type)) add(type, mode);
      } else add(mode, mode);
    }
  }

  #topLevel(type: Method["type"]): Use | undefined {
    const settings = this.#cx.config[type];
    if (!settings?.enabled) return undefined;
    const known = this.#named.get(type);
    return known?.type === type
      ? known
      : { type, config: settings, name: `global.${type}`, path: [type], enabled: true };
  }

  /** What a route lists, resolved. */
  routeSlots(route: Config["routes"][number], routeName: string, path: Path): Slots {
    const uses: Use[] = [];
    const hooks: HookUse[] = [];
    for (const [i, item] of route.middleware.entries()) {
      const place = [...path, "middleware", i];
      if (item === undefined) continue;
      if (typeof item === "string") {
        const hook = this.hooks.find(item, place);
        const use = this.#named.get(item);
        if (hook) hooks.push(hook);
        else if (use === undefined)
          this.#cx.unknownName("middleware", item, place, [...this.#named.keys(), ...this.hooks.names]);
        else if (!use.enabled) {
          // Listing what is switched off would leave a route open that looks protected.
          const guard = AUTH_TYPES.has(use.type) || use.type === "forward_auth" || use.type === "ip_filter";
          this.#cx[guard ? "error" : "warn"](
            "disabled",
            place,
            `the middleware ${JSON.stringify(item)} is switched off ("enabled": false)`,
          );
        } else uses.push(use);
      } else
        uses.push({
          type: item.type,
          config: item.config,
          name: item.name ?? `${routeName}.${item.type}`,
          path: [...place, "config"],
          enabled: on(item),
        });
    }
    if (route.transform)
      uses.push({
        type: "transform",
        config: route.transform,
        name: `${routeName}.transform`,
        path: [...path, "transform"],
        enabled: route.transform.enabled,
      });
    if (typeof route.compression === "object") {
      uses.push({
        type: "compression",
        config: route.compression,
        name: `${routeName}.compression`,
        path: [...path, "compression"],
        enabled: route.compression.enabled,
      });
    }
    const slots = this.#slots(uses, "on this route");
    if (route.surface !== undefined) this.#addSurface(slots, route.surface, [...path, "surface"]);
    slots.hooks = hooks;
    const { onRequest, onResponse, onError, onLog } = route;
    if (onRequest || onResponse || onError || onLog) {
      const input = definedOnly({ onRequest, onResponse, onError, onLog }) as HookInput;
      hooks.push(this.hooks.inPlace(routeName, input, path));
    }
    if (route.auth) {
      if (slots.auth)
        this.#cx.error(
          "contradiction",
          [...path, "auth"],
          'authentication is also listed in "middleware"; keep one of them',
        );
      else this.#addModes(slots, route.auth, [...path, "auth"], () => undefined);
    }
    return slots;
  }

  /** The limit of a route's surface, unless limits are switched off altogether. */
  #addSurface(slots: Slots, id: string, path: Path): void {
    const use = this.#surfaces.get(id);
    if (use === undefined) this.#cx.unknownName("surface", id, path, this.#surfaces.ids);
    else if (slots.uses.has("rate_limit"))
      this.#cx.error("contradiction", path, 'a rate limit is also listed in "middleware"; keep one of them');
    else if (this.#cx.config.rate_limit?.enabled !== false) slots.uses.set("rate_limit", use);
  }

  /** Indices of a use's policies; none where it asks for nothing. */
  policiesOf(use: Use): readonly number[] {
    const known = this.#indices.get(use);
    if (known) return known;
    const lowered = lowerPolicy(this.#cx, use.type as PolicyType, use.config as never, use.path);
    const indices = lowered.map(({ type, config }) => this.#push(use.name, type, config, use.path));
    this.#indices.set(use, indices);
    return indices;
  }

  /** Index of a hook's policy; nothing where it is called at no point. */
  hook(use: HookUse): number | undefined {
    if (!this.#hookIndices.has(use))
      this.#hookIndices.set(use, use.config && this.#push(use.name, "hook", use.config, use.path));
    return this.#hookIndices.get(use);
  }

  /** Index of the policy for these methods. */
  auth(methods: readonly { method: Method; use: Use }[], anonymous: boolean): number {
    const key = `${anonymous}:${methods.map(({ use }) => this.#id(use)).join(",")}`;
    const known = this.#auths.get(key);
    if (known !== undefined) return known;
    const name = `${methods.map(({ use }) => use.name).join("+") || "auth"}${anonymous ? ".optional" : ""}`;
    const index = this.#push(
      name,
      "auth",
      lowerAuth(
        this.#cx,
        methods.map(({ method }) => method),
        anonymous,
      ),
      methods[0]?.use.path ?? [],
      methods.map(({ use }) => use.path),
    );
    this.#auths.set(key, index);
    return index;
  }

  /** Index of the policy for these scopes and roles. */
  authorize(scopes: readonly string[], roles: readonly string[], realm: string, path: Path): number {
    const key = JSON.stringify([[...scopes].sort(), [...roles].sort(), realm]);
    const known = this.#authorizes.get(key);
    if (known !== undefined) return known;
    const index = this.#push(
      `authorize.${[...scopes, ...roles].join(".").slice(0, 80)}`,
      "authorize",
      lowerAuthorize(this.#cx, scopes, roles, realm),
      path,
    );
    this.#authorizes.set(key, index);
    return index;
  }

  #push(name: string, type: string, config: Json, path: Path, methods?: readonly Path[]): number {
    let unique = name;
    for (let n = 2; this.#names.has(unique); n++) unique = `${name}-${n}`;
    this.#names.add(unique);
    this.origins.push({ path, type, ...(methods && { methods }) });
    return this.policies.push({ name: unique, type, config }) - 1;
  }

  #id(use: Use): number {
    const known = this.#ids.get(use) ?? this.#ids.size;
    this.#ids.set(use, known);
    return known;
  }
}

/** Without the keys that are not there. */
function definedOnly(value: object): object {
  return Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== undefined));
}

/** `{type, enabled, config: {enabled}}`: both switches must be on. */
function on(item: Middleware): boolean {
  return item.enabled && (item.config as { enabled?: boolean }).enabled !== false;
}

type Config = Lowering["config"];
