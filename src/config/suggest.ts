/** "Did you mean": the nearest known spelling within two edits. */

const MAX_EDITS = 2;

/** The candidate nearest to `word` within two edits (insert, delete, replace, swap of neighbours), or nothing. */
export function suggest(word: string, candidates: Iterable<string>): string | undefined {
  const wanted = word.toLowerCase();
  let best: string | undefined;
  // A word of one or two letters is within two edits of everything: ask for less there.
  let limit = Math.min(MAX_EDITS, Math.floor(wanted.length / 2));
  for (const candidate of candidates) {
    if (candidate === word) continue;
    const edits = distance(wanted, candidate.toLowerCase(), limit);
    if (edits <= limit) {
      best = candidate;
      if (edits === 0) return best;
      limit = edits - 1;
    }
  }
  return best;
}

/** Optimal string alignment distance; gives up with `limit + 1` once it is certainly above `limit`. */
export function distance(a: string, b: string, limit: number): number {
  if (limit < 0 || Math.abs(a.length - b.length) > limit) return limit + 1;
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    let least = i;
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (previous[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, (before[j - 2] ?? 0) + 1);
      row.push(cost);
      if (cost < least) least = cost;
    }
    if (least > limit) return limit + 1;
    before = previous;
    previous = row;
  }
  return previous[b.length] ?? limit + 1;
}
