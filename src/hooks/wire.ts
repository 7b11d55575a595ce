/**
 * Calls and replies as bytes; the layout is described in `crates/titan-core/src/hook/{call,reply}.rs`.
 *
 * Reading is lazy: a value becomes a string when a hook asks for it, and not before.
 */

/** Bytes of a call before the ends of its values. */
const CALL_HEAD = 32;
/** Bytes of a reply before its edits. */
const REPLY_HEAD = 28;
const ABSENT = 0x8000_0000;

/** `point` of a record that releases a context. */
export const RELEASE = 255;

/** What a reply says. */
export const GO_ON = 0;
export const ANSWER = 1;
export const FAILED = 2;

/** Kinds of edits. */
export const EDIT = {
  requestSet: 1,
  requestAdd: 2,
  requestRemove: 3,
  responseSet: 4,
  responseAdd: 5,
  responseRemove: 6,
  path: 7,
  query: 8,
  upstream: 9,
  backend: 10,
  body: 11,
} as const;

/** One edit. */
export type Edit = readonly [kind: number, name: string, value: string | Uint8Array];

/** A call within a buffer. */
export class Call {
  /** Replaced by a copy when the hook turns out to be asynchronous: the buffer is used again. */
  #bytes: Buffer;
  #start: number;

  constructor(bytes: Buffer, start: number) {
    this.#bytes = bytes;
    this.#start = start;
  }

  get length(): number {
    return this.#bytes.readUInt32LE(this.#start);
  }
  get slot(): number {
    return this.#bytes.readUInt32LE(this.#start + 4);
  }
  get turn(): number {
    return this.#bytes.readUInt32LE(this.#start + 8);
  }
  get desk(): number {
    return this.#bytes.readUInt16LE(this.#start + 12);
  }
  get hook(): number {
    return this.#bytes.readUInt16LE(this.#start + 14);
  }
  get point(): number {
    return this.#bytes[this.#start + 16] as number;
  }
  get status(): number {
    return this.#bytes.readUInt16LE(this.#start + 18);
  }
  get context(): number {
    return this.#bytes.readUInt32LE(this.#start + 20);
  }

  /** Bytes that nobody else will write to. */
  keep(): void {
    this.#bytes = Buffer.from(this.#bytes.subarray(this.#start, this.#start + this.length));
    this.#start = 0;
  }

  /** A value as Latin-1 (heads are bytes); `undefined` where absent. */
  latin1(index: number): string | undefined {
    const end = this.#end(index);
    return end >= ABSENT ? undefined : this.#bytes.toString("latin1", this.#begin(index), this.#start + end);
  }

  /** A value as UTF-8. */
  utf8(index: number): string | undefined {
    const end = this.#end(index);
    return end >= ABSENT ? undefined : this.#bytes.toString("utf8", this.#begin(index), this.#start + end);
  }

  /** A copy of a value's bytes. */
  bytes(index: number): Uint8Array | undefined {
    const end = this.#end(index);
    return end >= ABSENT ? undefined : new Uint8Array(this.#bytes.subarray(this.#begin(index), this.#start + end));
  }

  #end(index: number): number {
    return this.#bytes.readUInt32LE(this.#start + CALL_HEAD + 4 * index);
  }

  #begin(index: number): number {
    if (index > 0) return this.#start + (this.#end(index - 1) & 0x7fff_ffff);
    return this.#start + CALL_HEAD + 4 * this.#bytes.readUInt32LE(this.#start + 28);
  }
}

/** Replies on their way, in one buffer that grows as needed. */
export class Replies {
  bytes: Buffer = Buffer.allocUnsafeSlow(64 << 10);
  length = 0;

  /** Appends a reply. */
  write(
    call: Call,
    outcome: number,
    status: number,
    context: number,
    fresh: boolean,
    edits: readonly Edit[],
    body: string | Uint8Array,
  ): void {
    let room = REPLY_HEAD + 3 + (typeof body === "string" ? body.length * 3 : body.length);
    for (const [, name, value] of edits)
      room += 12 + name.length + (typeof value === "string" ? value.length * 3 : value.length);
    const start = this.length;
    if (start + room > this.bytes.length) this.#grow(start + room);
    const { bytes } = this;
    bytes.writeUInt32LE(call.slot, start + 4);
    bytes.writeUInt32LE(call.turn, start + 8);
    bytes.writeUInt16LE(call.desk, start + 12);
    bytes.writeUInt16LE(edits.length, start + 14);
    bytes[start + 16] = outcome;
    bytes[start + 17] = fresh ? 1 : 0;
    bytes.writeUInt16LE(status, start + 18);
    bytes.writeUInt32LE(context, start + 20);
    let at = start + REPLY_HEAD;
    for (const [kind, name, value] of edits) {
      bytes[at] = kind;
      bytes[at + 1] = 0;
      bytes.writeUInt16LE(name.length, at + 2);
      let end = at + 8;
      end += bytes.write(name, end, "latin1");
      // Header values are bytes; names of upstreams are text.
      const written =
        typeof value === "string" ? bytes.write(value, end, kind <= 6 ? "latin1" : "utf8") : copy(value, bytes, end);
      bytes.writeUInt32LE(written, at + 4);
      at = (end + written + 3) & ~3;
    }
    let size: number;
    if (typeof body === "string") size = body === "" ? 0 : bytes.write(body, at, "utf8");
    else {
      bytes.set(body, at);
      size = body.length;
    }
    bytes.writeUInt32LE(size, start + 24);
    this.length = (at + size + 3) & ~3;
    bytes.writeUInt32LE(this.length - start, start);
  }

  #grow(needed: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2));
    this.bytes.copy(larger, 0, 0, this.length);
    this.bytes = larger;
  }

  /** Everything was handed over. */
  clear(): void {
    this.length = 0;
    // One large answer must not hold its memory for good.
    if (this.bytes.length > 1 << 20) this.bytes = Buffer.allocUnsafeSlow(64 << 10);
  }
}

function copy(from: Uint8Array, to: Buffer, at: number): number {
  to.set(from, at);
  return from.length;
}
