/** The data plane's side of the hooks' wire, in memory: writes calls, reads replies. */
import type { HookPlan } from "../hooks/plan.ts";
import { type Edit, GO_ON } from "../hooks/wire.ts";

/** Values of a call by their names. */
export type Values = (read: string) => string | Uint8Array | undefined;

/** A reply that was read. */
export interface ReadReply {
  outcome: number;
  status: number;
  context: number;
  edits: Edit[];
  body: Buffer;
}

/** A call as the data plane lays it out (`crates/titan-core/src/hook/call.rs`). */
export function writeCall(
  hook: number,
  plan: HookPlan,
  point: number,
  status: number,
  context: number,
  values: Values,
): Buffer {
  const parts = plan.reads.map((read) => {
    const value = values(read);
    if (typeof value !== "string") return value;
    // Heads are bytes; what JSON and routes hold is text.
    return Buffer.from(value, /^(identity|claim:|route|error|log)/.test(read) ? "utf8" : "latin1");
  });
  const head = 32 + 4 * parts.length;
  const size = (head + parts.reduce((sum, part) => sum + (part?.length ?? 0), 0) + 3) & ~3;
  const record = Buffer.alloc(size);
  record.writeUInt32LE(size, 0);
  record.writeUInt16LE(hook, 14);
  record[16] = point;
  record.writeUInt16LE(status, 18);
  record.writeUInt32LE(context, 20);
  record.writeUInt32LE(parts.length, 28);
  let end = head;
  for (const [index, part] of parts.entries()) {
    if (part) record.set(part, end);
    end += part?.length ?? 0;
    record.writeUInt32LE(part === undefined ? end + 0x8000_0000 : end, 32 + 4 * index);
  }
  return record;
}

/** Reads a reply (`crates/titan-core/src/hook/reply.rs`). */
export function readReply(record: Buffer): ReadReply {
  const edits: Edit[] = [];
  let at = 28;
  for (let n = record.readUInt16LE(14); n > 0; n--) {
    const kind = record[at] ?? GO_ON;
    const name = at + 8;
    const value = name + record.readUInt16LE(at + 2);
    const end = value + record.readUInt32LE(at + 4);
    edits.push([
      kind,
      record.toString("latin1", name, value),
      record.toString(kind <= 6 ? "latin1" : "utf8", value, end),
    ]);
    at = (end + 3) & ~3;
  }
  return {
    outcome: record[16] ?? GO_ON,
    status: record.readUInt16LE(18),
    context: record.readUInt32LE(20),
    edits,
    body: record.subarray(at, at + record.readUInt32LE(24)),
  };
}

/** A channel whose other end is a test. */
export class MemoryChannel {
  readonly id = 0;
  #waiting: Buffer[] = [];
  #replied: ((reply: ReadReply) => void) | undefined;
  readonly #wake: () => void;

  constructor(wake: () => void) {
    this.#wake = wake;
  }

  /** Calls and waits for the reply. */
  ask(call: Buffer): Promise<ReadReply> {
    return new Promise((done) => {
      this.#replied = done;
      this.tell(call);
    });
  }

  /** Calls without waiting. */
  tell(call: Buffer): void {
    this.#waiting.push(call);
    this.#wake();
  }

  exchange(replies: Buffer, length: number, calls: Buffer): number {
    if (length > 0) {
      const reply = readReply(Buffer.from(replies.subarray(0, length)));
      this.#replied?.(reply);
    }
    const [next] = this.#waiting;
    if (next === undefined) return 0;
    if (next.length > calls.length) return -next.length;
    this.#waiting.shift();
    next.copy(calls);
    return next.length;
  }

  stalled(): number {
    return 0;
  }
  dropped(): number {
    return 0;
  }
  close(): void {
    this.#waiting = [];
  }
}
