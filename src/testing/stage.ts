/** Plays every backend of a test gateway, and the services that Titan itself asks, on one private loopback port. */
import { createHash, randomBytes } from "node:crypto";
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { buffer } from "node:stream/consumers";
import { usage } from "./message.ts";
import type { FakeUpstream, Forwarded } from "./types.ts";

type Request = IncomingMessage | Http2ServerRequest;
type Reply = ServerResponse | Http2ServerResponse;

/** Whose connection it is. */
interface Part {
  upstream: string;
  backend: string;
}

const PREFACE = "TITAN-REHEARSAL ";

/** What a {@link Stage} plays. */
export interface Cast {
  upstreams: Readonly<Record<string, FakeUpstream>> | undefined;
  services: Readonly<Record<string, FakeUpstream>>;
  /** Upstreams that are spoken to in HTTP/2. */
  http2: ReadonlySet<string>;
}

/** Fake backends and services. */
export class Stage {
  /** What came since it was last emptied. */
  attempts: Forwarded[] = [];
  /** The first thing that went wrong in a fake since it was last emptied. */
  failure: { error: unknown } | undefined;
  /** Who knows it may ask. */
  readonly token = randomBytes(16).toString("hex");
  readonly #cast: Cast;
  readonly #services: readonly string[];
  readonly #sockets = new Set<Socket>();
  readonly #parts = new WeakMap<object, Part>();
  /** Sessions of HTTP/2 and their sockets. */
  readonly #sessions = new WeakMap<object, Socket>();
  readonly #server: Server;
  readonly #http = createHttp((request, reply) => void this.#play(request, reply));
  readonly #http2 = createHttp2(
    { settings: { enableConnectProtocol: true } },
    (request, reply) => void this.#play(request, reply),
  );

  private constructor(cast: Cast) {
    this.#cast = cast;
    this.#services = Object.keys(cast.services);
    this.#server = createServer((socket) => this.#accept(socket));
    this.#http.keepAliveTimeout = 0;
    this.#http.requestTimeout = 0;
    this.#http.on("upgrade", (request, socket) => void this.#upgrade(request, socket));
    this.#http2.on("connect", (request, reply) => void this.#play(request, reply));
  }

  /** Begins to play. */
  static async open(cast: Cast): Promise<Stage> {
    const stage = new Stage(cast);
    await new Promise<void>((resolve, reject) => {
      stage.#server.once("error", reject);
      stage.#server.listen(0, "127.0.0.1", resolve);
    });
    // A test that forgets to close its gateway shall end all the same.
    stage.#server.unref();
    return stage;
  }

  /** `ip:port`. */
  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Where the service that is configured as `url` is played; `undefined` where nobody plays it. */
  service(url: string): string | undefined {
    const index = this.#services.indexOf(url);
    return index < 0 ? undefined : `http://${this.address}/${this.token}/${index}`;
  }

  /** Where a service that nobody plays is asked, so that the test is told. */
  missing(url: string): string {
    return `http://${this.address}/${this.token}/missing?${encodeURIComponent(url)}`;
  }

  /** Forgets what came. */
  empty(): void {
    this.attempts = [];
    this.failure = undefined;
  }

  /** Ends. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Reads the first line of a connection: who is meant. What has none is a question to a service. */
  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.unref();
    let head = Buffer.alloc(0);
    const look = () => {
      for (let part = socket.read(); part !== null; part = socket.read()) head = Buffer.concat([head, part]);
      const known = head.toString("latin1", 0, Math.min(head.length, PREFACE.length));
      const service = known !== PREFACE.slice(0, known.length);
      const end = head.indexOf(10);
      if (!service && end < 0) {
        if (head.length > 4_096) socket.destroy();
        return;
      }
      socket.off("readable", look);
      if (service) {
        socket.unshift(head);
        this.#http.emit("connection", socket);
        return;
      }
      const [, token, upstream = "", backend = ""] = head.toString("latin1", 0, end).split(" ");
      if (token !== this.token) {
        socket.destroy();
        return;
      }
      this.#parts.set(socket, { upstream, backend });
      if (end + 1 < head.length) socket.unshift(head.subarray(end + 1));
      if (this.#cast.http2.has(upstream)) {
        this.#http2.once("session", (session) => this.#sessions.set(session, socket));
        this.#http2.emit("connection", socket);
      } else this.#http.emit("connection", socket);
    };
    socket.on("readable", look);
  }

  async #play(request: Request, reply: Reply): Promise<void> {
    try {
      // What an HTTP/2 request calls its socket is a proxy of it.
      const stream = "stream" in request ? request.stream : undefined;
      const socket = stream ? this.#sessions.get(stream.session as object) : request.socket;
      const answer = await this.#answer(request, socket);
      if (answer.type === "error") {
        (socket ?? request.socket).destroy();
        return;
      }
      const body = Buffer.from(await answer.arrayBuffer());
      reply.statusCode = answer.status;
      for (const [name, value] of answer.headers) if (name !== "set-cookie") reply.setHeader(name, value);
      const cookies = answer.headers.getSetCookie();
      if (cookies.length > 0) reply.setHeader("set-cookie", cookies);
      if (request.method === "CONNECT" && answer.status === 200) {
        // A tunnel stays open; nothing is said in it.
        (reply as Http2ServerResponse).writeHead(200);
        (reply as Http2ServerResponse).stream.resume();
        return;
      }
      const bodiless = request.method === "HEAD" || answer.status === 204 || answer.status === 304;
      const trailers = bodiless ? undefined : trailersOf(answer);
      if (trailers) {
        // HTTP/1.1 passes on only those that are announced, behind a body in chunks.
        if (!stream) reply.setHeader("trailer", [...new Set(trailers.map(([name]) => name))].join(", "));
        reply.writeHead(reply.statusCode);
        if (stream) for (const [name, value] of trailers) (reply as Http2ServerResponse).addTrailers({ [name]: value });
        else (reply as ServerResponse).addTrailers(trailers);
      } else if (!bodiless) reply.setHeader("content-length", body.length);
      if (bodiless) reply.end();
      else reply.end(body);
    } catch (error) {
      this.failure ??= { error };
      reply.statusCode = 500;
      reply.end();
    }
  }

  /** An upgrade: accepted where the fake's answer is 200. */
  async #upgrade(request: IncomingMessage, socket: Duplex): Promise<void> {
    try {
      const answer = await this.#answer(request, socket);
      const accepted = answer.status === 200;
      const lines = [`HTTP/1.1 ${accepted ? "101 Switching Protocols" : `${answer.status} Refused`}`];
      for (const [name, value] of answer.headers) lines.push(`${name}: ${value}`);
      const key = request.headers["sec-websocket-key"];
      if (accepted) lines.push("connection: upgrade", `upgrade: ${request.headers.upgrade}`);
      else lines.push("content-length: 0", "connection: close");
      if (accepted && key !== undefined) {
        const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
        lines.push(`sec-websocket-accept: ${accept}`);
      }
      socket.write(`${lines.join("\r\n")}\r\n\r\n`);
      if (!accepted) socket.end();
    } catch (error) {
      this.failure ??= { error };
      socket.destroy();
    }
  }

  async #answer(request: Request, socket: object | undefined): Promise<Response> {
    const target = request.url ?? "/";
    const part = socket && this.#parts.get(socket);
    if (!part) return this.#serve(request, target);
    const forwarded = await read(request, target, part);
    this.attempts.push(forwarded);
    const { upstreams } = this.#cast;
    if (upstreams === undefined) return new Response(null, { status: 200 });
    const fake = Object.hasOwn(upstreams, part.upstream) ? upstreams[part.upstream] : undefined;
    if (!fake) {
      throw usage(
        `${forwarded.method} ${forwarded.path} went to the upstream "${part.upstream}", which has no fake: give one in \`upstreams\`.`,
      );
    }
    return answerOf(fake, forwarded, `The fake of the upstream "${part.upstream}"`);
  }

  /** Answers a question of Titan's own. */
  async #serve(request: Request, target: string): Promise<Response> {
    const [, token, which = ""] = target.split(/[/?]/);
    if (token !== this.token) return new Response(null, { status: 404 });
    if (which === "missing") {
      const url = decodeURIComponent(target.slice(target.indexOf("?") + 1));
      throw usage(`Titan asked ${url}, which has no fake: give one in \`services\`.`);
    }
    const url = this.#services[Number(which)] ?? "";
    const { pathname, search } = new URL(url);
    const forwarded = await read(request, pathname + search, { upstream: url, backend: new URL(url).host });
    return answerOf(this.#cast.services[url] as FakeUpstream, forwarded, `The fake of the service ${url}`);
  }
}

const trailers = new WeakMap<object, [name: string, value: string][]>();

/**
 * An answer of a fake that ends with trailers, as those of gRPC do: `withTrailers(new Response(message, { headers }), { "grpc-status": "0" })`.
 * It is the same object.
 */
export function withTrailers(response: Response, fields: Readonly<Record<string, string>>): Response {
  const list = Object.entries(fields).map(([name, value]): [string, string] => [name.toLowerCase(), String(value)]);
  trailers.set(response, [...(trailers.get(response) ?? []), ...list]);
  return response;
}

function trailersOf(response: Response): [name: string, value: string][] | undefined {
  return trailers.get(response);
}

async function answerOf(fake: FakeUpstream, forwarded: Forwarded, who: string): Promise<Response> {
  const answer: unknown = await fake(forwarded);
  if (isResponse(answer)) return answer;
  throw usage(`${who} gave ${answer === undefined ? "nothing" : `a ${typeof answer}`}: it must give a Response.`);
}

/** Not by its class: a test runner may run tests in a realm with a class of its own. */
function isResponse(value: unknown): value is Response {
  if (typeof value !== "object" || value === null) return false;
  const { status, headers, arrayBuffer } = value as Partial<Response>;
  return typeof status === "number" && headers !== undefined && typeof arrayBuffer === "function";
}

async function read(request: Request, target: string, part: Part): Promise<Forwarded> {
  const headers = new Headers();
  const raw = request.rawHeaders;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] as string;
    if (name === ":authority") headers.append("host", raw[i + 1] as string);
    else if (!name.startsWith(":")) headers.append(name, raw[i + 1] as string);
  }
  const tunnel = request.method === "CONNECT" || ("upgrade" in request && request.upgrade === true);
  const body = tunnel ? Buffer.alloc(0) : await buffer(request);
  const mark = target.indexOf("?");
  const text = () => body.toString("utf8");
  return {
    ...part,
    method: request.method ?? "GET",
    path: mark < 0 ? target : target.slice(0, mark),
    query: mark < 0 ? "" : target.slice(mark + 1),
    headers,
    body,
    text,
    json: () => JSON.parse(text()),
  };
}
