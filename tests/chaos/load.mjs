// A client of many keep-alive connections: an open loop of requests at a fixed rate until its standard input ends, then one line of JSON.
// Run as a process of its own, so that nothing else delays it.
//
//   node load.mjs '{"port": 8080, "connections": 32, "rate": 1000, "method": "GET", "path": "/", "timeout": 10000}'
import net from "node:net";

const {
  port,
  connections = 32,
  rate = 1000,
  method = "GET",
  path = "/",
  timeout = 10_000,
} = JSON.parse(process.argv[2]);
const result = { requests: 0, ok: 0, failed: 0, statuses: {}, failures: {}, ids: 0 };
const latencies = [];
const idle = [];
const waiting = [];
let ending = false;

class Connection {
  constructor() {
    this.text = "";
    this.busy = undefined;
    this.socket = net.connect({ port, host: "127.0.0.1", noDelay: true });
    this.socket.setEncoding("latin1");
    this.socket.on("connect", () => this.free());
    this.socket.on("data", (data) => this.read(data));
    this.socket.on("error", (error) => {
      this.reason = error.code;
    });
    this.socket.on("close", () => this.gone());
  }

  free() {
    if (ending) return this.socket.end();
    const next = waiting.shift();
    if (next) this.send(next);
    else idle.push(this);
  }

  // `due` is when the request should have been sent: a stalled gateway cannot hide its stall.
  send(due) {
    const id = method === "POST" ? `x-id: ${process.pid}-${result.ids++}\r\ncontent-length: 0\r\n` : "";
    this.busy = { due, timer: setTimeout(() => this.fail("timeout"), timeout) };
    this.socket.write(`${method} ${path} HTTP/1.1\r\nhost: chaos.test\r\n${id}\r\n`);
  }

  read(data) {
    this.text += data;
    const end = this.text.indexOf("\r\n\r\n");
    if (end < 0) return;
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(this.text.slice(0, end + 2))?.[1] ?? 0);
    if (this.text.length < end + 4 + length || !this.busy) return;
    const status = Number(this.text.slice(9, 12));
    const close = /\r\nconnection: *close/i.test(this.text.slice(0, end + 2));
    this.text = this.text.slice(end + 4 + length);
    result.statuses[status] = (result.statuses[status] ?? 0) + 1;
    if (status < 500) {
      result.ok++;
      latencies.push(performance.now() - this.busy.due);
      this.settle();
    } else this.count(`status ${status}`);
    if (close) this.socket.end();
    else this.free();
  }

  settle() {
    clearTimeout(this.busy.timer);
    this.busy = undefined;
  }

  count(reason) {
    result.failed++;
    result.failures[reason] = (result.failures[reason] ?? 0) + 1;
    this.settle();
  }

  fail(reason) {
    this.count(reason);
    this.socket.destroy();
  }

  // A connection that is closed while nothing was asked of it is no failed request.
  gone() {
    const at = idle.indexOf(this);
    if (at >= 0) idle.splice(at, 1);
    if (this.busy) this.count(this.reason ?? "closed");
    if (!ending) setTimeout(() => new Connection(), 5);
  }
}

for (let i = 0; i < connections; i++) new Connection();
const began = performance.now();
const pace = setInterval(() => {
  const due = ((performance.now() - began) / 1000) * rate;
  while (result.requests < due) {
    const moment = began + (result.requests++ * 1000) / rate;
    const connection = idle.shift();
    if (connection) connection.send(moment);
    else waiting.push(moment);
  }
}, 2);

function finish() {
  if (ending) return;
  clearInterval(pace);
  const last = performance.now() + timeout;
  const wait = setInterval(() => {
    const busy = result.ok + result.failed < result.requests;
    if (busy && performance.now() < last) return;
    clearInterval(wait);
    ending = true;
    latencies.sort((a, b) => a - b);
    const at = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))];
    const unsent = result.requests - result.ok - result.failed;
    if (unsent > 0) {
      result.failed += unsent;
      result.failures.unanswered = unsent;
    }
    process.stdout.write(`${JSON.stringify({ ...result, p50: at(0.5), p99: at(0.99), max: at(1) })}\n`, () =>
      process.exit(0),
    );
  }, 20);
}
process.stdin.on("end", finish).resume();
