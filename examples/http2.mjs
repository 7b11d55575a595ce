// HTTP/2 on both legs, and HTTP/1.1 on the same port: early hints and trailers of the backend reach the client.
//   curl --http2-prior-knowledge -v http://127.0.0.1:8080/page
import http2 from "node:http2";
import { createGateway } from "@titan-gateway/titan";

const sessions = new Set();
const server = http2.createServer((request, response) => {
  response.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });
  response.writeHead(200, { "content-type": "text/plain", trailer: "x-lines" });
  response.addTrailers({ "x-lines": "1" });
  response.end(`${request.url} by HTTP/${request.httpVersion} for ${request.headers["x-forwarded-for"]}\n`);
});
server.on("session", (session) => {
  sessions.add(session);
  session.on("close", () => sessions.delete(session));
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const gateway = createGateway({
  server: { host: "127.0.0.1", port: Number(process.env.PORT ?? 8080), http2: { max_concurrent_streams: 250 } },
  logging: { log_requests: false },
  upstreams: [{ name: "pages", protocol: "h2c", backends: [{ host: "127.0.0.1", port: server.address().port }] }],
  routes: [{ path: "/*", upstream: "pages" }],
});
await gateway.start();
console.log(`listening on ${gateway.address().url}`);

process.once("SIGTERM", async () => {
  await gateway.close(); // clients get GOAWAY, and what is in flight its answer
  for (const session of sessions) session.close();
  server.close();
});
