// Two gRPC servers behind Titan, which asks their health service and balances the calls. Messages are JSON here to need no .proto file.

import { Server, ServerCredentials } from "@grpc/grpc-js";
import { createGateway } from "@titan-gateway/titan";

const json = { serialize: (value) => Buffer.from(JSON.stringify(value)), deserialize: (bytes) => JSON.parse(bytes) };
const bytes = { serialize: (value) => value, deserialize: (value) => value };
const method = (path, { serialize, deserialize }, streams = false) => ({
  path,
  requestStream: streams,
  responseStream: streams,
  requestSerialize: serialize,
  requestDeserialize: deserialize,
  responseSerialize: serialize,
  responseDeserialize: deserialize,
});

/** A client needs the same: `new (makeGenericClientConstructor(Greeter, "Greeter"))("127.0.0.1:8080", credentials.createInsecure())`. */
const Greeter = {
  hello: method("/example.Greeter/Hello", json),
  chat: method("/example.Greeter/Chat", json, true),
};
const Health = { check: method("/grpc.health.v1.Health/Check", bytes) };
const SERVING = Buffer.from([8, 1]);

async function greeter(name) {
  const server = new Server();
  server.addService(Greeter, {
    hello: (call, answer) => answer(null, { hello: call.request.name, by: name }),
    chat: (call) => {
      call.on("data", ({ text }) => call.write({ text: `${name} heard ${text}` }));
      call.on("end", () => call.end());
    },
  });
  server.addService(Health, { check: (_call, answer) => answer(null, SERVING) });
  const port = await new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { server, port };
}

const greeters = await Promise.all(["one", "two"].map(greeter));

const gateway = createGateway({
  server: { host: "127.0.0.1", port: Number(process.env.PORT ?? 8080) },
  logging: { log_requests: false },
  upstreams: [
    {
      name: "greeters",
      protocol: "h2c",
      load_balancing: "round_robin",
      backends: greeters.map(({ port }) => ({ host: "127.0.0.1", port })),
      health_check: { type: "grpc", interval_seconds: 5, timeout_seconds: 1 },
    },
  ],
  routes: [{ path: "/example.Greeter/*", method: "POST", upstream: "greeters", timeout: "30s" }],
});
await gateway.start();
console.log(`listening on ${gateway.address().url}`);

process.once("SIGTERM", async () => {
  await gateway.close();
  for (const { server } of greeters) server.tryShutdown(() => {});
});
