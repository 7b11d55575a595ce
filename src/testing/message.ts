/** HTTP/1.1 on the test's side of the connection: a request as bytes, and an answer read whole. */
import zlib from "node:zlib";
import { TitanError } from "../errors.ts";

/** A request to write. */
export interface Outgoing {
  method: string;
  target: string;
  host: string;
  headers: Readonly<Record<string, string | readonly string[]>>;
  body: Uint8Array | undefined;
}

/** An answer that was read. */
export interface Incoming {
  status: number;
  headers: Headers;
  body: Uint8Array;
  trailers: Headers;
}

/** Methods whose requests say that their body is empty. */
const WITH_BODY = new Set(["POST", "PUT", "PATCH"]);

function check({ method, target, host }: Outgoing): void {
  if (!/^[!#$%&'*+.^_`|~\w-]+$/.test(method)) throw usage(`${JSON.stringify(method)} is no request method.`);
  if (/[\s\0]/.test(target + host))
    throw usage(
      `${JSON.stringify(host + target)} holds a space or a line break, which no client can send: write it as %20.`,
    );
}

/** The head of a request over HTTP/2, as the data plane's client takes it. */
export function streamHead(request: Outgoing, secure: boolean, websocket: boolean): object {
  check(request);
  const headers: [string, string][] = [];
  for (const [name, values] of Object.entries(request.headers)) {
    const lower = name.toLowerCase();
    if (["connection", "upgrade", "keep-alive", "transfer-encoding", "proxy-connection"].includes(lower))
      throw usage(`The header ${JSON.stringify(name)} belongs to HTTP/1.1: HTTP/2 has no such field.`);
    if (lower !== "host") for (const value of [values].flat()) headers.push([lower, String(value)]);
  }
  return {
    method: websocket ? "CONNECT" : request.method,
    scheme: secure ? "https" : "http",
    authority: request.host,
    path: request.target,
    ...(websocket && { protocol: "websocket" }),
    headers,
  };
}

/** Bytes of a request after which the connection closes. */
export function encode(request: Outgoing): Buffer {
  check(request);
  const { method, target, host, headers, body } = request;
  const lines = [`${method} ${target} HTTP/1.1`, `host: ${host}`];
  const given = new Set<string>();
  for (const [name, values] of Object.entries(headers)) {
    const lower = name.toLowerCase();
    given.add(lower);
    if (lower === "host") continue;
    for (let value of typeof values === "string" ? [values] : values) {
      if (/[\r\n\0]/.test(name + value))
        throw usage(`The header ${JSON.stringify(name)} holds a line break, which would make two fields of it.`);
      if (lower === "connection" && !/\bclose\b/i.test(value)) value = `close, ${value}`;
      lines.push(`${name}: ${value}`);
    }
  }
  if (!given.has("connection")) lines.push("connection: close");
  const framed = given.has("content-length") || given.has("transfer-encoding");
  if (!framed && (body !== undefined || WITH_BODY.has(method))) lines.push(`content-length: ${body?.length ?? 0}`);
  // Header fields are bytes, one for each character; a target beyond ASCII goes as the UTF-8 that a browser would send.
  const [first = "", ...rest] = lines;
  return Buffer.concat([
    Buffer.from(`${first}\r\n`, "utf8"),
    Buffer.from(`${rest.join("\r\n")}\r\n\r\n`, "latin1"),
    body ?? Buffer.alloc(0),
  ]);
}

/**
 * Reads an answer; interim ones before it are passed over. One over HTTP/2 (`stream`) is written as HTTP/1.1 would write it, its body always in
 * chunks.
 */
export function decode(bytes: Buffer, method: string, stream = false): Incoming {
  let rest = bytes;
  for (;;) {
    const end = rest.indexOf("\r\n\r\n");
    if (end < 0) throw new TitanError("TITAN_TIMEOUT", cutShort(rest.length));
    const [first = "", ...lines] = rest.toString("latin1", 0, end).split("\r\n");
    const status = Number(first.slice(9, 12));
    rest = rest.subarray(end + 4);
    if (status < 200 && status !== 101) continue;
    const headers = fieldsOf(lines);
    if (!stream) return { status, headers, ...bodyOf(rest, status, headers, method) };
    headers.delete("transfer-encoding");
    return { status, headers, ...(method === "CONNECT" && status === 200 ? whole() : dechunk(rest)) };
  }
}

function fieldsOf(lines: readonly string[]): Headers {
  const headers = new Headers();
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  return headers;
}

interface Content {
  body: Uint8Array;
  trailers: Headers;
}

function whole(body: Uint8Array = new Uint8Array()): Content {
  return { body, trailers: new Headers() };
}

function bodyOf(rest: Buffer, status: number, headers: Headers, method: string): Content {
  if (method === "HEAD" || status === 101 || status === 204 || status === 304) return whole();
  if (/\bchunked\b/i.test(headers.get("transfer-encoding") ?? "")) return dechunk(rest);
  const length = headers.get("content-length");
  if (length === null) return whole(rest);
  if (rest.length < Number(length)) throw new TitanError("TITAN_TIMEOUT", cutShort(rest.length));
  return whole(rest.subarray(0, Number(length)));
}

function dechunk(bytes: Buffer): Content {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const end = bytes.indexOf("\r\n", at);
    const size = end < 0 ? Number.NaN : Number.parseInt(bytes.toString("latin1", at, end), 16);
    if (size === 0) {
      const lines = bytes.toString("latin1", end + 2).split("\r\n");
      return { body: Buffer.concat(parts), trailers: fieldsOf(lines.slice(0, lines.indexOf(""))) };
    }
    if (Number.isNaN(size) || end + 2 + size > bytes.length)
      throw new TitanError("TITAN_TIMEOUT", cutShort(parts.reduce((sum, part) => sum + part.length, 0)));
    parts.push(bytes.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}

function cutShort(bytes: number): string {
  return bytes === 0
    ? "The connection was closed without an answer."
    : `The answer was cut short after ${bytes} bytes: Titan resets a connection whose answer it can't finish.`;
}

/** A body as text, without its content coding where this Node.js knows it. */
export function textOf(body: Uint8Array, coding: string | null): string {
  if (body.length === 0) return "";
  const plain = (() => {
    switch (coding?.toLowerCase()) {
      case "gzip":
        return zlib.gunzipSync(body);
      case "br":
        return zlib.brotliDecompressSync(body);
      case "deflate":
        return zlib.inflateSync(body);
      case "zstd":
        return "zstdDecompressSync" in zlib && typeof zlib.zstdDecompressSync === "function"
          ? (zlib.zstdDecompressSync(body) as Buffer)
          : body;
      default:
        return body;
    }
  })();
  return Buffer.from(plain).toString("utf8");
}

/** An error of whoever wrote the test. */
export function usage(message: string): TitanError {
  return new TitanError("TITAN_USAGE", message);
}
