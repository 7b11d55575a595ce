/** What `titan serve` does, apart from its options: start, say where it listens, obey signals. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ControlSocket } from "../admin/control.ts";
import type { Config, Issue } from "../config/index.ts";
import { messageOf, TitanError } from "../errors.ts";
import { createGateway, type Gateway, type GatewaySource } from "../gateway/gateway.ts";
import { reachable } from "../gateway/target.ts";
import type { TitanLogger } from "../log/logger.ts";
import { loadNative } from "../native.ts";
import { version } from "../version.ts";
import { out, print } from "./io.ts";
import type { ServeOptions } from "./serve.ts";
import { tellPredecessor } from "./successor.ts";
import type { Watcher } from "./watch.ts";

/** Signals closer together than this are one. */
const SAME_SIGNAL_MS = 200;

/** How long a successor waits for the control socket. */
const CONTROL_PATIENCE_MS = 10_000;

/** Serves until a signal ends it. */
export async function run(options: ServeOptions): Promise<void> {
  const began = Date.now();
  if (options.inspect !== undefined) await openInspector(options.inspect === true ? "" : options.inspect);
  const native = await loadNative();
  const notify = (state: string) => native.notify(state);
  const source = await sourceOf(options);
  let log: TitanLogger | undefined;
  const gateway = createGateway(source, {
    env: environment(options),
    ...(options.strict && { strict: true }),
    // Where nobody configured the admin listener, its port is not worth failing for.
    admin: source !== undefined && "file" in source ? true : "optional",
    inheritSockets: true,
    successor: native.isSuccessor(),
    hookWorkers: "config",
    logger: async (config) => {
      const { createLogger } = await import("../log/logger.ts");
      log = await createLogger({ level: config.logging.level, format: options.logFormat ?? formatOf(config) });
      return log;
    },
  });
  let closing = 0;
  const close = (signal: string) => {
    if (closing > 0) {
      // One Ctrl-C comes twice where a parent (npm, timeout) passes on what the terminal sent to the whole group.
      if (performance.now() - closing < SAME_SIGNAL_MS) return;
      log?.warn(`Second ${signal}: ending at once.`);
      process.exit(1);
    }
    closing = performance.now();
    notify("STOPPING=1\nSTATUS=draining");
    log?.info({ signal }, "Draining: requests in flight finish, a second signal ends at once.");
    gateway.close().catch((error: unknown) => log?.error(messageOf(error)));
  };
  process.on("SIGTERM", close);
  process.on("SIGINT", close);
  const reload = (reason: string) => {
    log?.debug({ reason }, "Reloading.");
    const micros = process.hrtime.bigint() / 1000n;
    notify(`RELOADING=1\nMONOTONIC_USEC=${micros}`);
    gateway
      .reload()
      .catch(() => undefined) // said by the event below
      .finally(() => notify("READY=1"));
  };
  process.on("SIGHUP", () => reload("SIGHUP"));
  let control: ControlSocket | undefined;
  let upgrading = false;
  const upgrade = async () => {
    if (upgrading || closing > 0) return;
    upgrading = true;
    try {
      const { startSuccessor } = await import("./successor.ts");
      log?.info("Starting another process that takes the listening sockets.");
      const pid = await startSuccessor(gateway);
      // A manager that waits for this process to end must know that the service goes on.
      notify(`MAINPID=${pid}\nSTATUS=serving`);
      log?.info({ pid }, `Process ${pid} serves; this one answers what it has and ends.`);
      watcher?.close();
      await Promise.all([control?.close(), gateway.handOver()]);
    } catch (error) {
      log?.error(`THE OTHER PROCESS DID NOT TAKE OVER, this one goes on serving: ${messageOf(error)}`);
      upgrading = false;
    }
  };
  if (process.platform !== "win32") process.on("SIGUSR2", upgrade);

  gateway.on("reload", (generation) => {
    watcher?.refresh();
    log?.info({ generation, file: gateway.file }, "The new configuration is served.");
    logWarnings(gateway, log);
  });
  gateway.on("reloadRefused", (error) => logRefusal(error, log));
  let watcher: Watcher | undefined;
  await gateway.start();
  if (closing > 0) return;
  if (native.isSuccessor()) tellPredecessor();
  control = await openControl(gateway, log, native.isSuccessor());
  gateway.on("close", () => {
    log?.info("Closed.");
    control?.close();
    watcher?.close();
  });
  if (options.watch) {
    const { watchFiles } = await import("./watch.ts");
    watcher = watchFiles(
      () => gateway.files,
      () => reload("file changed"),
      began,
    );
  }
  logWarnings(gateway, log);
  announce(gateway, options, log);
  notify(`READY=1\nSTATUS=serving ${gateway.addresses().length} listeners`);
}

/** Before anything is loaded, so that a debugger sees all of it; threads of hooks are seen through it. */
async function openInspector(address: string): Promise<void> {
  const inspector = await import("node:inspector");
  const match = /^(?:(.+):)?(\d*)$/.exec(address);
  if (!match)
    throw new TitanError("TITAN_USAGE", `--inspect takes a port or host:port, not ${JSON.stringify(address)}.`);
  const [, host = "127.0.0.1", port] = match;
  // It may be open already: NODE_OPTIONS=--inspect.
  if (inspector.url() === undefined) inspector.open(port === "" ? 9229 : Number(port), host);
  if (inspector.url() === undefined)
    throw new TitanError("TITAN_LISTEN", `The inspector cannot listen on ${host}:${port || 9229}.`);
}

async function sourceOf(options: ServeOptions): Promise<GatewaySource> {
  if (options.config !== undefined) return { file: options.config };
  const { findConfigFile, upstreamConfig } = await import("../config/index.ts");
  if (options.upstream === undefined) {
    const file = findConfigFile();
    return file === undefined ? undefined : { file };
  }
  const { upstream, host, tls: secure } = options;
  // With a certificate the one port is HTTPS: the variable means that one, and no other beside it.
  const port = options.port ?? (secure && process.env.TITAN_PORT ? portOf(process.env.TITAN_PORT) : undefined);
  const tls = secure ? await (await import("./dev-certificate.ts")).devCertificate() : undefined;
  try {
    return upstreamConfig({
      upstream,
      ...(host !== undefined && { host }),
      ...(port !== undefined && { port }),
      ...(tls && { tls }),
    });
  } catch (cause) {
    throw new TitanError("TITAN_USAGE", messageOf(cause), { cause });
  }
}

function portOf(text: string): number {
  if (/^\d+$/.test(text) && Number(text) <= 65_535) return Number(text);
  throw new TitanError("TITAN_USAGE", `TITAN_PORT is ${JSON.stringify(text)}, which is no port.`);
}

/** Flags are the strongest form of the environment's overrides. With `--upstream` they are in the configuration that is made of it. */
function environment({ upstream, port, host, logLevel, tls }: ServeOptions): Record<string, string | undefined> {
  const env: Record<string, string | undefined> = { ...process.env };
  if (logLevel !== undefined) env.TITAN_LOG_LEVEL = logLevel;
  if (port !== undefined || tls) env.TITAN_PORT = upstream === undefined ? String(port) : undefined;
  if (host !== undefined) env.TITAN_HOST = upstream === undefined ? host : undefined;
  return env;
}

function formatOf(config: Config): "auto" | "json" | "text" {
  return config.logging.format;
}

function logWarnings(gateway: Gateway, log: TitanLogger | undefined): void {
  for (const issue of gateway.warnings) logIssue(issue, log);
}

function logRefusal(error: TitanError, log: TitanLogger | undefined): void {
  log?.error({ code: error.code }, `RELOAD REFUSED, the old configuration is still served: ${error.message}`);
  for (const issue of error.issues) logIssue(issue, log);
}

function logIssue(issue: Issue, log: TitanLogger | undefined): void {
  const { severity, message, path, file, line, column, suggestion } = issue;
  const hint = suggestion === undefined ? "" : `; did you mean ${JSON.stringify(suggestion)}?`;
  const where = path === "" ? "" : `${path}: `;
  log?.[severity === "error" ? "error" : "warn"]({ path, file, line, column }, `${where}${message}${hint}`);
}

/** The control socket is a convenience: without a place for it (a read-only container), Titan serves all the same. */
async function openControl(gateway: Gateway, log: TitanLogger | undefined, successor: boolean) {
  const { ControlSocket } = await import("../admin/control.ts");
  const path = gateway.config.admin.control_socket;
  const patience = Date.now() + (successor ? CONTROL_PATIENCE_MS : 0);
  try {
    for (;;) {
      try {
        return await ControlSocket.open(gateway, path);
      } catch (error) {
        // The predecessor closes its own as soon as it knows that this process serves.
        if (Date.now() >= patience) throw error;
        await sleep(50);
      }
    }
  } catch (error) {
    if (path !== undefined || !(error instanceof TitanError)) {
      await gateway.close({ force: true });
      throw error;
    }
    log?.warn(
      { code: error.code },
      `${error.message} \`titan reload\` and \`titan status\` will not find this process.`,
    );
    return undefined;
  }
}

function announce(gateway: Gateway, options: ServeOptions, log: TitanLogger | undefined): void {
  const urls = gateway.addresses().map(({ url }) => url);
  const admin = gateway.adminAddress();
  log?.info(
    {
      version,
      pid: process.pid,
      file: gateway.file,
      listeners: urls,
      ...(admin && { admin: `http://${reachable(admin.address)}:${admin.port}` }),
    },
    `Titan serves ${urls.join(" and ")}`,
  );
  if (gateway.file !== undefined) return;
  const base = urls[0] ?? "";
  const insecure = base.startsWith("https:") ? "-k " : "";
  const start = process.env.npm_lifecycle_event === "start" ? "npm start --" : "titan serve";
  const lines = [
    `${out.bold("Titan")} ${version} listens on ${out.cyan(base)}`,
    options.upstream === undefined
      ? "It serves the built-in demo: every path goes to an echo backend inside this process."
      : `Every path goes to ${options.upstream}.`,
    "",
    "Try:",
    `  curl ${insecure}-i ${base}/hello`,
    `  curl ${insecure}${base}/_health`,
    `  curl ${insecure}${base}/_metrics`,
    `  ${start} --upstream http://127.0.0.1:3000   # your own server instead`,
    `  ${start} --config titan.yaml                # a configuration (titan init writes one)`,
    "",
    "Ctrl-C ends it.",
  ];
  print(lines.join("\n"));
}
