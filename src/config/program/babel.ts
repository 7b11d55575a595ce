/** The slow way, for what {@link transform} leaves alone: jiti, with Babel inside. */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/** Loads `file` and what it imports; also decorators, namespaces, CommonJS in TypeScript, and the `paths` of a tsconfig.json. `seen` is told of each file of the user's. */
export async function runWithBabel(
  file: string,
  alias: Readonly<Record<string, string>>,
  seen: (file: string) => void,
): Promise<Record<string, unknown>> {
  const { createJiti } = await import("jiti/static");
  const before = new Set(Object.keys(require.cache));
  const jiti = createJiti(file, {
    fsCache: false,
    interopDefault: true,
    tryNative: false,
    tsconfigPaths: true,
    alias: { ...alias },
  });
  try {
    return (await jiti.import(file)) as Record<string, unknown>;
  } finally {
    for (const id of Object.keys(require.cache)) {
      if (before.has(id)) continue;
      delete require.cache[id];
      if (!/[\\/]node_modules[\\/]/.test(id)) seen(id);
    }
  }
}
