/** Watches hooks: what was called and what came of it. */
import type { HookPlan } from "../hooks/plan.ts";
import type { HookInput } from "../hooks/types.ts";
import type { HookCall } from "./types.ts";

const HANDLERS = ["onRequest", "onResponse", "onError", "onLog"] as const;

type Handler = (this: HookInput, context: never) => unknown;

/** Plans whose handlers do what they did, and are written down in `calls`. */
export function watched(plans: readonly HookPlan[], write: (call: HookCall) => void): HookPlan[] {
  return plans.map((plan) => {
    // What a handler reaches by `this` stays reachable.
    const input = Object.create(plan.input);
    for (const handler of HANDLERS) {
      const original = plan.input[handler] as Handler | undefined;
      if (typeof original !== "function") continue;
      input[handler] = function (this: HookInput, context: never): unknown {
        const call: HookCall = { hook: plan.name, handler, outcome: "continued" };
        write(call);
        const settle = (result: unknown) => {
          if (result !== undefined && result !== null && handler !== "onLog") call.outcome = "answered";
          return result;
        };
        const fail = (error: unknown) => {
          call.outcome = "failed";
          call.error = error;
          throw error;
        };
        let result: unknown;
        try {
          result = original.call(this, context);
        } catch (error) {
          return fail(error);
        }
        return isThenable(result) ? result.then(settle, fail) : settle(result);
      };
    }
    return { ...plan, input };
  });
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}
