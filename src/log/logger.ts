import { type Logger, type LoggerOptions, pino } from "pino";
import type { LogLevel } from "./types.ts";

export type { LogLevel, TitanLogger } from "./types.ts";

/** How Titan's own log looks. The access log is another stream, written by the data plane. */
export interface LogSettings {
  level: LogLevel;
  /** `auto` is pretty on a terminal and JSON elsewhere. */
  format: "auto" | "json" | "text";
}

/**
 * Titan's own log, on stderr: stdout is for data. Pretty printing runs in this thread, not in pino's worker: a log line that was
 * written is on the terminal even when the process ends right after.
 */
export async function createLogger(settings: LogSettings): Promise<Logger> {
  const options: LoggerOptions = {
    level: settings.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  };
  const pretty = settings.format === "text" || (settings.format === "auto" && process.stderr.isTTY === true);
  if (!pretty) return pino(options, pino.destination({ fd: 2, sync: true }));
  const { prettyStream } = await import("./pretty.ts");
  return pino(
    options,
    prettyStream({
      destination: 2,
      sync: true,
      colorize: process.stderr.isTTY === true && !process.env.NO_COLOR,
      translateTime: "SYS:HH:MM:ss.l",
    }),
  );
}
