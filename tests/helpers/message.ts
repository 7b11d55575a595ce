/** A reader of HTTP/1.1 messages for tests: strict where a lenient one would hide what a gateway wrote. */

/** A message read from the wire. */
export interface Message {
  /** Request or status line. */
  start: string;
  /** Fields in order, names as written. */
  fields: [name: string, value: string][];
  body: Buffer;
  trailers: [name: string, value: string][];
  /** Bytes taken, framing included. */
  size: number;
}

/** What frames the body besides the message itself. */
export interface Framing {
  kind: "request" | "response";
  /** The answer belongs to a HEAD request: no body whatever the head says. */
  head?: boolean;
  /** The connection has ended: a body without length is complete. */
  ended?: boolean;
}

/** A message that breaks the grammar. */
export class BrokenMessage extends Error {}

/** First value of a field, names compared without case. */
export function field(message: Pick<Message, "fields">, name: string): string | undefined {
  return fields(message, name)[0];
}

/** Every value of a field. */
export function fields(message: Pick<Message, "fields">, name: string): string[] {
  return message.fields.filter(([key]) => key.toLowerCase() === name.toLowerCase()).map(([, value]) => value);
}

/** Reads one message from the start of `bytes`; undefined = more bytes are needed. Throws {@link BrokenMessage}. */
export function readMessage(bytes: Buffer, framing: Framing): Message | undefined {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (headEnd < 0) return undefined;
  const lines = bytes.toString("latin1", 0, headEnd).split("\r\n");
  const start = lines.shift() ?? "";
  const message: Message = {
    start,
    fields: lines.map(readField),
    body: Buffer.alloc(0),
    trailers: [],
    size: headEnd + 4,
  };
  const length = field(message, "content-length");
  const coding = field(message, "transfer-encoding");
  if (length !== undefined && coding !== undefined) throw new BrokenMessage("Content-Length beside Transfer-Encoding");
  if (fields(message, "content-length").length > 1) throw new BrokenMessage("two Content-Length");
  const status = framing.kind === "response" ? Number(start.split(" ")[1]) : 0;
  if (framing.head || status === 204 || status === 304 || (status >= 100 && status < 200)) return message;
  if (coding !== undefined) {
    if (coding.toLowerCase() !== "chunked") throw new BrokenMessage(`Transfer-Encoding: ${coding}`);
    return readChunked(bytes, message);
  }
  if (length !== undefined) {
    if (!/^\d+$/.test(length)) throw new BrokenMessage(`Content-Length: ${length}`);
    const end = message.size + Number(length);
    if (bytes.length < end) return undefined;
    return { ...message, body: bytes.subarray(message.size, end), size: end };
  }
  if (framing.kind === "request") return message;
  return framing.ended ? { ...message, body: bytes.subarray(message.size), size: bytes.length } : undefined;
}

function readField(line: string): [string, string] {
  const match = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\0]*?)[ \t]*$/.exec(line);
  if (!match) throw new BrokenMessage(`field ${JSON.stringify(line)}`);
  return [match[1] ?? "", match[2] ?? ""];
}

function readChunked(bytes: Buffer, message: Message): Message | undefined {
  const parts: Buffer[] = [];
  let at = message.size;
  for (;;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const line = bytes.toString("latin1", at, lineEnd);
    // Extensions are legal HTTP, but a gateway that passes them on fails a test: so they break the message here.
    if (!/^[0-9A-Fa-f]{1,8}$/.test(line)) throw new BrokenMessage(`chunk size ${JSON.stringify(line)}`);
    const size = Number.parseInt(line, 16);
    at = lineEnd + 2;
    if (size === 0) break;
    if (bytes.length < at + size + 2) return undefined;
    parts.push(bytes.subarray(at, at + size));
    if (bytes.toString("latin1", at + size, at + size + 2) !== "\r\n") throw new BrokenMessage("chunk end");
    at += size + 2;
  }
  const trailers: [string, string][] = [];
  for (;;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const line = bytes.toString("latin1", at, lineEnd);
    at = lineEnd + 2;
    if (line === "") return { ...message, body: Buffer.concat(parts), trailers, size: at };
    trailers.push(readField(line));
  }
}
