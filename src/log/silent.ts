import type { TitanLogger } from "./logger.ts";

/** Logs nothing. For programs that bring no logger. */
export const silent: TitanLogger = {
  trace() {},
  debug() {},
  info() {},
  warn() {},
  error() {},
};
