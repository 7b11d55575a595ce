/** What Titan logs to, apart from pino's own types: a program's logger need not be pino, and the published types need no other package. */

/** Levels, quietest last. */
export type LogLevel = "trace" | "debug" | "info" | "warn" | "error";

/** Writes one line: fields and a message, or a message alone. */
export interface LogMethod {
  (fields: object, message?: string): void;
  (message: string): void;
}

/** Pino, or anything like it. */
export type TitanLogger = Record<LogLevel, LogMethod> & { level?: string };
