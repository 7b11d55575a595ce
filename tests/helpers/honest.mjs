// An honest client in a process of its own, so that what the attack costs the attacker is not charged to the gateway.
// node honest.mjs PORT h1|h2 COUNT → {"times": [ms, …] sorted}; ends with 1 at the first answer that is not 200.
import http from "node:http";
import http2 from "node:http2";

const [port, protocol, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];

function overH1() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const once = () =>
    new Promise((resolve, reject) => {
      const request = http.get(
        { port, host: "127.0.0.1", path: "/honest", headers: { host: "t.test" }, agent },
        (answer) => {
          answer.resume();
          answer.on("end", () => resolve(answer.statusCode));
          answer.on("error", reject);
        },
      );
      request.on("error", reject);
    });
  return { once, close: () => agent.destroy() };
}

function overH2() {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const once = () =>
    new Promise((resolve, reject) => {
      const stream = session.request({ ":path": "/honest", ":authority": "t.test" });
      let status = 0;
      stream.on("response", (headers) => {
        status = headers[":status"];
      });
      stream.on("error", reject);
      stream.resume();
      stream.on("end", () => resolve(status));
      stream.end();
    });
  return { once, close: () => session.destroy() };
}

const client = protocol === "h2" ? overH2() : overH1();
const times = [];
for (let n = 0; n < count; n++) {
  const began = performance.now();
  const status = await client.once();
  if (status !== 200) throw new Error(`status ${status}`);
  times.push(performance.now() - began);
  // Spread over the attack instead of being done before it has begun.
  await new Promise((resolve) => setTimeout(resolve, 1));
}
client.close();
process.stdout.write(JSON.stringify({ times: times.sort((a, b) => a - b) }));
