import net from "node:net";
import { BrokenMessage, type Message, readMessage } from "./message.ts";

/** One connection to the origin and every byte that came in on it. */
export class OriginConnection {
  readonly socket: net.Socket;
  /** Number of the connection, from 1. */
  readonly id: number;
  received = Buffer.alloc(0);
  /** Whole requests, in order. */
  readonly requests: Message[] = [];
  /** Why what came in is no request, if so. */
  broken: string | undefined;
  ended = false;
  closed = false;
  /** Bytes of `received` that were read as requests. */
  #taken = 0;

  constructor(socket: net.Socket, id: number) {
    this.socket = socket;
    this.id = id;
  }

  /** Bytes that belong to no whole request. */
  get rest(): Buffer {
    return this.received.subarray(this.#taken);
  }

  /** Takes bytes in; returns the requests that they completed. */
  feed(data: Buffer): Message[] {
    this.received = Buffer.concat([this.received, data]);
    const found: Message[] = [];
    try {
      for (let message = readMessage(this.rest, { kind: "request" }); message; ) {
        this.#taken += message.size;
        found.push(message);
        message = readMessage(this.rest, { kind: "request" });
      }
    } catch (error) {
      if (!(error instanceof BrokenMessage)) throw error;
      this.broken = error.message;
    }
    this.requests.push(...found);
    return found;
  }
}

/** What an origin does. Both may write to the connection's socket as they like. */
export interface OriginOptions {
  /** A whole request has come. Default: {@link echo}. */
  onRequest?(request: Message, connection: OriginConnection): void;
  /** Bytes have come, before they are read as requests. */
  onData?(data: Buffer, connection: OriginConnection): void;
}

/** Answers 200 with the request line as body, so that a client sees whose answer it got. */
export function echo(request: Message, connection: OriginConnection): void {
  const body = Buffer.from(request.start);
  const head = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nX-Origin-Connection: ${connection.id}\r\n\r\n`;
  connection.socket.write(
    Buffer.concat([Buffer.from(head), request.start.startsWith("HEAD ") ? Buffer.alloc(0) : body]),
  );
}

/** A raw TCP origin that records every byte. */
export class RawOrigin {
  readonly connections: OriginConnection[] = [];
  readonly #server: net.Server;
  #options: OriginOptions = {};

  private constructor() {
    this.#server = net.createServer((socket) => this.#accept(socket));
  }

  /** Listens on a free port of 127.0.0.1. */
  static async start(options: OriginOptions = {}): Promise<RawOrigin> {
    const origin = new RawOrigin();
    origin.#options = options;
    await new Promise<void>((resolve, reject) => {
      origin.#server.once("error", reject);
      origin.#server.listen(0, "127.0.0.1", resolve);
    });
    return origin;
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  /** Bytes received on all connections. */
  get bytes(): number {
    return this.connections.reduce((sum, { received }) => sum + received.length, 0);
  }

  /** Whole requests of all connections, by connection. */
  get requests(): Message[] {
    return this.connections.flatMap(({ requests }) => requests);
  }

  /** Everything received, connections one after another. */
  get text(): string {
    return this.connections.map(({ received }) => received.toString("latin1")).join("\n--\n");
  }

  /** Another behaviour from here on. */
  behave(options: OriginOptions): void {
    this.#options = options;
  }

  /** Closes every connection and forgets what was recorded, so that a case begins with nothing. */
  reset(): void {
    for (const { socket } of this.connections) socket.destroy();
    this.connections.length = 0;
  }

  async close(): Promise<void> {
    for (const { socket } of this.connections) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(socket: net.Socket): void {
    const connection = new OriginConnection(socket, this.connections.length + 1);
    this.connections.push(connection);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("end", () => {
      connection.ended = true;
    });
    socket.on("close", () => {
      connection.closed = true;
    });
    socket.on("data", (data) => {
      this.#options.onData?.(data, connection);
      for (const request of connection.feed(data)) (this.#options.onRequest ?? echo)(request, connection);
    });
  }
}
