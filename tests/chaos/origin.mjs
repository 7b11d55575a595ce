// A backend of one's own: `node origin.mjs '{"port": 1, "name": "a", "log": "/tmp/ids"}'`. Answers with its name; `/slow` after a second.
// `x-id` of each POST is written to `log` before the answer, so that it survives a SIGKILL. `fail` = share answered with 503.
import { openSync, writeSync } from "node:fs";
import { createServer } from "node:http";

const { port, name, log, fail = 0 } = JSON.parse(process.argv[2]);
const file = log === undefined ? undefined : openSync(log, "a");
let requests = 0;
const server = createServer((request, response) => {
  if (request.url === "/count") return response.end(String(requests));
  requests++;
  if (file !== undefined && request.headers["x-id"]) writeSync(file, `${request.headers["x-id"]}\n`);
  const answer = () => {
    response.statusCode = fail > 0 && request.url !== "/health" && Math.random() < fail ? 503 : 200;
    response.setHeader("content-length", name.length);
    response.end(name);
  };
  if (request.url === "/slow") setTimeout(answer, 1000);
  else answer();
});
server.keepAliveTimeout = 60_000;
server.listen(port, "127.0.0.1", () => process.stdout.write("ready\n"));
