/** Durations ("30s", "1m30s") and sizes ("1MiB", "64kB"). */

/** Unit of a duration given as a plain number: the one that the key names. */
export type DurationUnit = "ms" | "s";

const MILLISECONDS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const DURATION = /^(?:\d+(?:\.\d+)?(?:ms|s|min|m|h|d))+$/;
const DURATION_PART = /(\d+(?:\.\d+)?)(ms|s|min|m|h|d)/g;

/** Text with units → milliseconds; `undefined` where it is not a duration. */
export function parseDuration(text: string): number | undefined {
  const compact = text.replaceAll(" ", "").toLowerCase();
  if (!DURATION.test(compact)) return undefined;
  let total = 0;
  for (const [, amount, unit] of compact.matchAll(DURATION_PART))
    total += Number(amount) * (MILLISECONDS[unit ?? ""] ?? 0);
  return total;
}

const BYTES: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1000,
  mb: 1000 ** 2,
  gb: 1000 ** 3,
  tb: 1000 ** 4,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4,
};

/** Text with a unit → bytes (`kB` = 1000, `KiB` and `k` = 1024); `undefined` where it is not a size. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]+)$/i.exec(text.trim());
  const factor = BYTES[match?.[2]?.toLowerCase() ?? ""];
  return match && factor ? Math.round(Number(match[1]) * factor) : undefined;
}

/** Milliseconds → the shortest exact text, for messages and the reference page. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0";
  for (const [unit, factor] of [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["min", 60_000],
    ["s", 1000],
  ] as const) {
    if (ms % factor === 0) return `${ms / factor} ${unit}`;
  }
  return `${ms} ms`;
}

/** Bytes → the shortest exact text. */
export function formatSize(bytes: number): string {
  for (const [unit, factor] of [
    ["GiB", 1024 ** 3],
    ["MiB", 1024 ** 2],
    ["KiB", 1024],
  ] as const) {
    if (bytes !== 0 && bytes % factor === 0) return `${bytes / factor} ${unit}`;
  }
  return `${bytes} bytes`;
}
