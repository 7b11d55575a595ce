/** Keys that are there twice in a JSON text. `JSON.parse` takes the last one without a word, so that the first would silently not count. */
import { type Node, parseTree } from "jsonc-parser";
import type { Path } from "./issue.ts";

/** A key that has been there before in its object. */
export interface DuplicateKey {
  path: Path;
  offset: number;
}

/** Every such key of `text`, whose value is `value`. The tree with positions is only made where the numbers of keys differ. */
export function duplicateKeys(text: string, value: unknown): DuplicateKey[] {
  if (keysIn(text) === keysOf(value)) return [];
  const found: DuplicateKey[] = [];
  const tree = parseTree(text, [], { allowTrailingComma: true });
  if (tree) collect(tree, [], found);
  return found;
}

function collect(node: Node, path: Path, found: DuplicateKey[]): void {
  const known = new Set<string>();
  for (const [i, child] of (node.children ?? []).entries()) {
    if (node.type !== "object") {
      collect(child, [...path, i], found);
      continue;
    }
    const [key, value] = child.children ?? [];
    if (!key) continue;
    const place = [...path, key.value as string];
    if (known.has(key.value)) found.push({ path: place, offset: key.offset });
    known.add(key.value);
    if (value) collect(value, place, found);
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const SLASH = 0x2f;

/** Strings in front of a colon, comments left out. */
function keysIn(text: string): number {
  let keys = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === SLASH) {
      const ends = text[i + 1] === "*" ? text.indexOf("*/", i + 2) + 1 : text.indexOf("\n", i);
      if (ends <= 0) break;
      i = ends;
    } else if (code === QUOTE) {
      i++;
      while (i < text.length && text.charCodeAt(i) !== QUOTE) i += text.charCodeAt(i) === BACKSLASH ? 2 : 1;
      let next = i + 1;
      while (text.charCodeAt(next) <= 0x20) next++;
      if (text.charCodeAt(next) === COLON) keys++;
    }
  }
  return keys;
}

function keysOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  let keys = 0;
  if (Array.isArray(value)) for (const item of value) keys += keysOf(item);
  else for (const key of Object.keys(value)) keys += 1 + keysOf((value as Record<string, unknown>)[key]);
  return keys;
}
