/** Ends everything that still runs, and takes the files away. */
export function clean(): Promise<void>;
