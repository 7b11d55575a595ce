/** Titan: exports only. */
export {};
