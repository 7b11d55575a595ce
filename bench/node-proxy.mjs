// The Node proxies that `npm run bench:hooks` compares with. Each does what Titan's hook does: read one header, set one towards the origin.
// node bench/node-proxy.mjs NAME PORT ORIGIN-PORT
import http from "node:http";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(import.meta.dirname, ".cache/package.json"));
const [name, port, origin] = process.argv.slice(2);
const target = `http://127.0.0.1:${origin}`;
/** As many connections to the origin as the load has, and no more than one request at a time on each. */
const CONNECTIONS = 128;
const HOP_BY_HOP = new Set(["connection", "keep-alive", "transfer-encoding", "te", "upgrade", "trailer", "host"]);

const mark = (headers) => {
  headers["x-marked"] = `${headers["x-tenant"]}-1`;
  return headers;
};

function markFirst(request, _reply, done) {
  mark(request.headers);
  done();
}

async function fastify(isAsync) {
  const app = require("fastify")({ logger: false });
  await app.register(require("@fastify/http-proxy"), {
    upstream: target,
    undici: { connections: CONNECTIONS, pipelining: 1 },
    preHandler: isAsync ? async (request) => void mark(request.headers) : markFirst,
  });
  await app.listen({ host: "127.0.0.1", port: Number(port) });
}

function httpProxy() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const proxy = require("http-proxy").createProxyServer({ target, agent });
  proxy.on("error", (_error, _request, response) => response.writeHead?.(502).end());
  serve((request, response) => {
    mark(request.headers);
    proxy.web(request, response);
  });
}

function undici() {
  const { Pool } = require("undici");
  const pool = new Pool(target, { connections: CONNECTIONS, pipelining: 1 });
  const forwarded = (headers) => {
    const kept = {};
    for (const name in headers) if (!HOP_BY_HOP.has(name)) kept[name] = headers[name];
    return kept;
  };
  serve((request, response) => {
    const { method, url } = request;
    const body = method === "GET" || method === "HEAD" ? undefined : request;
    pool.stream(
      { method, path: url, headers: mark(forwarded(request.headers)), body },
      ({ statusCode, headers }) => response.writeHead(statusCode, forwarded(headers)),
      (error) => {
        if (error) response.headersSent ? response.destroy() : response.writeHead(502).end();
      },
    );
  });
}

function serve(handler) {
  const server = http.createServer({ keepAliveTimeout: 300_000 }, handler);
  server.listen(Number(port), "127.0.0.1");
}

await { fastify: () => fastify(false), "fastify-async": () => fastify(true), "http-proxy": httpProxy, undici }[name]();
process.on("SIGTERM", () => process.exit(0));
