// Medians and spreads. Ratios are formed within a round, so what slows the machine for a while slows both sides of a pair.

/** Quantile of numbers by linear interpolation. */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length === 0) return Number.NaN;
  const at = (sorted.length - 1) * share;
  const low = Math.floor(at);
  const high = Math.ceil(at);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

/** Median, quartiles and extremes. */
export function summary(values) {
  return {
    n: values.length,
    median: quantile(values, 0.5),
    q1: quantile(values, 0.25),
    q3: quantile(values, 0.75),
    min: quantile(values, 0),
    max: quantile(values, 1),
  };
}

/** `rounds` = [{ gateway: sample }]; ratio of `pick` between two gateways of each round. */
export function ratios(rounds, pair, pick) {
  return compared(rounds, pair, (first, second) => pick(first) / pick(second));
}

/** As {@link ratios}, the first less the second. */
export function differences(rounds, pair, pick) {
  return compared(rounds, pair, (first, second) => pick(first) - pick(second));
}

function compared(rounds, [first, second], compare) {
  const values = rounds
    .filter((round) => round[first] && round[second])
    .map((round) => compare(round[first], round[second]))
    .filter(Number.isFinite);
  return summary(values);
}
