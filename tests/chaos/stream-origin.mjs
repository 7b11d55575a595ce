// Backends of long streams: `node stream-origin.mjs '{"port": 1, "h2": 2}'`. On `port` (HTTP/1.1) a WebSocket echo and an event each 50 ms
// under /events; on `h2` (HTTP/2 in the clear) a call that gives each message back.
import { createServer } from "node:http";
import { createServer as createServer2 } from "node:http2";
import { WebSocketServer } from "ws";

const { port, h2 } = JSON.parse(process.argv[2]);

const server = createServer((request, response) => {
  if (request.url !== "/events") return response.end("ok");
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  const beat = setInterval(() => response.write("data: x\n\n"), 50);
  response.on("close", () => clearInterval(beat));
});
server.keepAliveTimeout = 60_000;
new WebSocketServer({ server, path: "/chat" }).on("connection", (socket) => {
  socket.on("message", (data, binary) => socket.send(data, { binary }));
  socket.on("error", () => {});
});

const calls = createServer2();
calls.on("session", (session) => session.on("error", () => {}));
calls.on("stream", (stream) => {
  stream.on("error", () => {});
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.pipe(stream);
});

server.listen(port, "127.0.0.1", () => {
  calls.listen(h2, "127.0.0.1", () => process.stdout.write("ready\n"));
});
