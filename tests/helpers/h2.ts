import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** Frame types of RFC 9113. */
export const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const;

/** Flags of RFC 9113. */
export const FLAG = { ack: 1, endStream: 1, endHeaders: 4, padded: 8, priority: 32 } as const;

/** A frame from the wire. */
export interface Frame {
  type: number;
  flags: number;
  stream: number;
  payload: Buffer;
}

/** Encodes one frame. */
export function frame(type: number, flags: number, stream: number, payload: Buffer | string = ""): Buffer {
  const body = Buffer.from(payload as string, "latin1");
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

/** 32-bit number. */
export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

function integer(value: number, prefixBits: number, first: number): Buffer {
  const limit = (1 << prefixBits) - 1;
  if (value < limit) return Buffer.from([first | value]);
  const bytes = [first | limit];
  let rest = value - limit;
  for (; rest >= 128; rest >>>= 7) bytes.push((rest & 127) | 128);
  bytes.push(rest);
  return Buffer.from(bytes);
}

/** One HPACK literal field without indexing; nothing is checked, so anything can be sent. */
export function literal(name: string, value: string): Buffer {
  const [key, text] = [Buffer.from(name, "latin1"), Buffer.from(value, "latin1")];
  return Buffer.concat([Buffer.from([0]), integer(key.length, 7, 0), key, integer(text.length, 7, 0), text]);
}

/** One HPACK literal field that is added to the dynamic table. */
export function indexedLiteral(name: string, value: string): Buffer {
  const [key, text] = [Buffer.from(name, "latin1"), Buffer.from(value, "latin1")];
  return Buffer.concat([Buffer.from([0x40]), integer(key.length, 7, 0), key, integer(text.length, 7, 0), text]);
}

/** A header block of literals. */
export function block(...fields: [string, string][]): Buffer {
  return Buffer.concat(fields.map(([name, value]) => literal(name, value)));
}

/** The four pseudo-headers of a request. */
export function request(path = "/a", method = "GET"): [string, string][] {
  return [
    [":method", method],
    [":scheme", "http"],
    [":authority", "t.test"],
    [":path", path],
  ];
}

/** A raw HTTP/2 connection by prior knowledge: frames out as given, frames in as they come. */
export class RawH2 {
  readonly socket: net.Socket;
  readonly frames: Frame[] = [];
  closed = false;
  #rest = Buffer.alloc(0);

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("data", (data) => this.#read(data));
    socket.on("close", () => {
      this.closed = true;
    });
  }

  /** Connects, sends the preface and `settings` (pairs of id and value), acknowledges the server's. */
  static async connect(port: number, settings: [number, number][] = []): Promise<RawH2> {
    const socket = net.connect(port, "127.0.0.1");
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    const client = new RawH2(socket);
    const payload = Buffer.concat(
      settings.map(([id, value]) => Buffer.concat([Buffer.from([id >> 8, id & 255]), u32(value)])),
    );
    client.write(Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(FRAME.settings, 0, 0, payload));
    await client.until(() => client.frames.some(({ type }) => type === FRAME.settings), 3000);
    client.write(frame(FRAME.settings, FLAG.ack, 0));
    return client;
  }

  write(...parts: Buffer[]): void {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(parts));
  }

  /** HEADERS that end the stream. */
  get(stream: number, path = "/a"): Buffer {
    return frame(FRAME.headers, FLAG.endHeaders | FLAG.endStream, stream, block(...request(path)));
  }

  /** Waits until `done`, the end of the connection or the time is over. */
  async until(done: () => boolean, timeout = 3000): Promise<boolean> {
    const deadline = performance.now() + timeout;
    while (!done() && !this.closed && performance.now() < deadline) await sleep(2);
    return done();
  }

  /** Frames of a type, on a stream if given. */
  of(type: number, stream?: number): Frame[] {
    return this.frames.filter((one) => one.type === type && (stream === undefined || one.stream === stream));
  }

  /** Error code of the GOAWAY, if one came. */
  get goaway(): number | undefined {
    return this.of(FRAME.goaway).at(-1)?.payload.readUInt32BE(4);
  }

  destroy(): void {
    this.socket.destroy();
  }

  #read(data: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, data]);
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) return;
      const payload = this.#rest.subarray(9, 9 + length);
      const stream = this.#rest.readUInt32BE(5) & 0x7fffffff;
      this.frames.push({ type: this.#rest.readUInt8(3), flags: this.#rest.readUInt8(4), stream, payload });
      this.#rest = this.#rest.subarray(9 + length);
    }
  }
}
