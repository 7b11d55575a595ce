/** Hooks → policies, and the plans that the dispatcher calls by number. */
import { isHook, isHookFactory } from "../../hooks/define.ts";
import { type HookPlan, nativeHook, planHook } from "../../hooks/plan.ts";
import type { HookInput } from "../../hooks/types.ts";
import type { Path } from "../issue.ts";
import type { Json, Lowering } from "./context.ts";

/** A hook that a route (or every route) uses. */
export interface HookUse {
  name: string;
  /** Settings of the native policy, number included; `undefined` where it is called at no point. */
  config: Json | undefined;
  path: Path;
}

/** All hooks of a configuration, numbered in the order in which they are met: every thread that loads it counts alike. */
export class HookTable {
  readonly plans: HookPlan[] = [];
  /** On every route. */
  readonly global: HookUse[] = [];
  readonly #cx: Lowering;
  readonly #named = new Map<string, HookUse>();
  readonly #factories = new Set<string>();
  /** Made with the first hook, for all of them. */
  #upstreams: ReadonlySet<string> | undefined;

  constructor(cx: Lowering, used: ReadonlyMap<string, HookInput>) {
    this.#cx = cx;
    for (const [name, hook] of Object.entries(cx.config.hooks ?? {})) {
      const path = ["hooks", name];
      if (isHookFactory(hook)) this.#factories.add(name);
      else if (isHook(hook)) this.#add(name, hook, path);
    }
    for (const [name, hook] of used) this.#add(name, hook, ["middleware"]);
  }

  get names(): Iterable<string> {
    return this.#named.keys();
  }

  /** The hook of this name. */
  find(name: string, place: Path): HookUse | undefined {
    if (this.#factories.has(name)) {
      this.#cx.error(
        "missing",
        place,
        `the hook "${name}" takes options: use it as { type: ${JSON.stringify(name)}, config: { … } }`,
      );
    }
    return this.#named.get(name);
  }

  /** Functions of a route. */
  inPlace(routeName: string, input: HookInput, path: Path): HookUse {
    return this.#plan(`${routeName}.hook`, input, path);
  }

  #add(name: string, hook: HookInput, path: Path): void {
    const use = this.#plan(name, hook, path);
    this.#named.set(name, use);
    if (hook.global) this.global.push(use);
  }

  #plan(name: string, input: HookInput, path: Path): HookUse {
    const report = ({ key, message }: { key: string; message: string }) =>
      this.#cx.error("bad_hook", key === "" ? path : [...path, key], message);
    this.#upstreams ??= new Set((this.#cx.config.upstreams ?? []).map((upstream) => upstream?.name));
    const plan = planHook(name, input, report, this.#upstreams);
    const native = nativeHook(plan, report);
    const number = this.plans.push(plan) - 1;
    return { name, config: plan.points.length > 0 ? { hook: number, ...native } : undefined, path };
  }
}
