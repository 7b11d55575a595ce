/**
 * Program of a worker thread that runs the hooks of one generation. It reads the configuration by itself, because functions do not cross
 * threads; modules are never unloaded, but a thread can be ended.
 */
import { extname } from "node:path";
import { parentPort } from "node:worker_threads";
import { loadWith } from "../config/load.ts";
import { MODULE_EXTENSIONS } from "../config/source.ts";
import { messageOf } from "../errors.ts";
import { loadNative } from "../native.ts";
import { type HookLogLine, HookThread } from "./dispatch.ts";
import type { WorkerMessage, WorkerOrder, WorkerTask } from "./worker-thread.ts";

const port = parentPort;
const tell = (message: WorkerMessage) => port?.postMessage(message);
const write = (line: HookLogLine) => tell({ type: "log", line: cloneable(line) });

// What a hook left running and then failed must not end the hooks of every other request.
for (const event of ["uncaughtException", "unhandledRejection"] as const) {
  process.on(event, (error: unknown) => {
    const stack = error instanceof Error ? error.stack : undefined;
    write({ level: "error", message: `Uncaught in a hook: ${messageOf(error)}`, fields: { event, stack } });
  });
}

async function run(task: WorkerTask): Promise<void> {
  // Where Babel has to read the configuration, here too: it looks at stacks while it is loaded, and with source maps on by then, Node would
  // read the whole map of that bundle.
  if (MODULE_EXTENSIONS.includes(extname(task.file)) && !task.code.has(task.file)) await import("jiti/static");
  // Stacks of errors name lines of the user's TypeScript.
  process.setSourceMapsEnabled(true);
  const [native, loaded] = await Promise.all([loadNative(), loadWith(task.file, task.load, task.code)]);
  if (!loaded.ok) throw new Error("the configuration changed while it was read");
  const names = loaded.hooks.map(({ name }) => name);
  if (names.join("\n") !== task.names.join("\n")) throw new Error("the configuration changed while it was read");
  const thread = new HookThread(native.HookChannel, loaded.hooks, write, () => void end());
  const end = async () => {
    await thread.end();
    tell({ type: "ended" });
    // Timers and sockets of the user's must not keep the thread.
    setImmediate(() => process.exit(0));
  };
  await thread.begin(task.reload);
  port?.on("message", (order: WorkerOrder) => {
    if (order === "end") void end();
  });
  tell({ type: "ready", channel: thread.id });
}

// It may be started ahead of its task: what takes time to load is loaded by then, and a failure is told when it matters.
loadNative().catch(() => undefined);
port?.once("message", (order: WorkerOrder) => {
  if (order === "end") process.exit(0);
  run(order).catch((error: unknown) => {
    tell({ type: "failed", message: messageOf(error) });
    setImmediate(() => process.exit(1));
  });
});

/** What structured cloning refuses (functions, and the like) as text. */
function cloneable(line: HookLogLine): HookLogLine {
  try {
    structuredClone(line.fields);
    return line;
  } catch {
    const fields = Object.entries(line.fields).map(([name, value]) => [
      name,
      typeof value === "object" ? JSON.stringify(value) : String(value),
    ]);
    return { ...line, fields: Object.fromEntries(fields) };
  }
}
