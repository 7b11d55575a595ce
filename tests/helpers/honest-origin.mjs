// The backend of the honest client (honest.mjs), in a process of its own: what an attack costs the test that makes it must not hold up its
// answers. Prints its port; ends with its standard input.
import http from "node:http";

const server = http.createServer((request, answer) => {
  request.resume();
  answer.end("honest");
});
server.keepAliveTimeout = 600_000;
server.listen(0, "127.0.0.1", () => process.stdout.write(`${server.address().port}\n`));
process.stdin.resume().on("end", () => process.exit());
