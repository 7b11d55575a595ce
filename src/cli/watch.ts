import { type FSWatcher, statSync, watch } from "node:fs";
import { dirname } from "node:path";

/** Changes within this time are one. */
const SETTLE_MS = 100;

/** A watch that goes on until it is closed. */
export interface Watcher {
  /** Follows the files of now: a new configuration may depend on others. */
  refresh(): void;
  close(): void;
}

/**
 * Calls `changed` when one of the files has changed. Directories are watched, not files: editors replace a file, and a Kubernetes volume
 * swaps a link beside it. What counts is whether the files themselves are others than before; a file written after `since` (when it was
 * read, Unix milliseconds) is another already.
 */
export function watchFiles(files: () => readonly string[], changed: () => void, since = Date.now()): Watcher {
  let watchers = new Map<string, FSWatcher>();
  let timer: NodeJS.Timeout | undefined;
  let seen = signature(files());

  const settle = () => {
    const now = signature(files());
    if (now === seen) return;
    seen = now;
    changed();
  };
  const follow = () => {
    const next = new Map<string, FSWatcher>();
    for (const directory of new Set(files().map(dirname))) {
      const known = watchers.get(directory);
      next.set(directory, known ?? open(directory));
      watchers.delete(directory);
    }
    for (const watcher of watchers.values()) watcher.close();
    watchers = next;
  };
  const open = (directory: string) => {
    const watcher = watch(directory, { persistent: false }, () => {
      clearTimeout(timer);
      timer = setTimeout(settle, SETTLE_MS);
    });
    // The directory went away; the configuration that was read stays.
    watcher.on("error", () => watcher.close());
    return watcher;
  };
  follow();
  if (files().some((file) => (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0) > since)) {
    seen = "";
    timer = setTimeout(settle, SETTLE_MS);
  }
  return {
    refresh() {
      seen = signature(files());
      follow();
    },
    close() {
      clearTimeout(timer);
      for (const watcher of watchers.values()) watcher.close();
    },
  };
}

function signature(files: readonly string[]): string {
  return files
    .map((file) => {
      const stat = statSync(file, { throwIfNoEntry: false });
      return stat ? `${file}\0${stat.ino}\0${stat.size}\0${stat.mtimeMs}` : `${file}\0gone`;
    })
    .join("\n");
}
