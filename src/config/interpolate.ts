/** `${NAME}`, `${NAME:-default}` and `${NAME:+text if set}` in any string of a configuration. */
import type { Path } from "./issue.ts";
import { Interpolated } from "./kit/index.ts";

/** What a variable that is not set and has no default is reported with. */
export type Report = (path: Path, message: string) => void;

// Upper case only: `${client_ip}` and the like are filled in for each request by the data plane.
const VARIABLE = /\$?\$\{([A-Z_][A-Z0-9_]*)(?::([-+])([^}]*))?\}/g;

/** The value with every variable replaced; unchanged parts are shared, not copied. */
export function interpolate(
  value: unknown,
  env: Readonly<Record<string, string | undefined>>,
  report: Report,
): unknown {
  const path: (string | number)[] = [];
  const walk = (node: unknown): unknown => {
    if (typeof node === "string") return node.includes("${") ? replace(node) : node;
    if (typeof node !== "object" || node === null) return node;
    if (Array.isArray(node)) {
      let copy: unknown[] | undefined;
      for (let i = 0; i < node.length; i++) {
        path.push(i);
        const item = walk(node[i]);
        path.pop();
        if (item === node[i]) continue;
        copy ??= node.slice();
        copy[i] = item;
      }
      return copy ?? node;
    }
    const prototype = Object.getPrototypeOf(node);
    if (prototype !== Object.prototype && prototype !== null) return node;
    let copy: Record<string, unknown> | undefined;
    for (const [key, inner] of Object.entries(node)) {
      path.push(key);
      const item = walk(inner);
      path.pop();
      if (item === inner) continue;
      copy ??= { ...(node as Record<string, unknown>) };
      copy[key] = item;
    }
    return copy ?? node;
  };
  const replace = (source: string): unknown => {
    let replaced = false;
    const result = source.replaceAll(
      VARIABLE,
      (whole, name: string, operator: string | undefined, text: string | undefined) => {
        if (whole.startsWith("$$")) return whole.slice(1);
        replaced = true;
        const given = env[name];
        // As in a shell: `:-` also stands in for an empty variable, `:+` stands for one that is set.
        if (operator === "+") return given ? (text ?? "") : "";
        if (given !== undefined && (given !== "" || text === undefined)) return given;
        if (text !== undefined) return text;
        report([...path], `the environment variable ${name} is not set; \${${name}:-…} gives a default`);
        return "";
      },
    );
    return replaced ? new Interpolated(result) : result;
  };
  return walk(value);
}
