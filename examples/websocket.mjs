// A chat room behind Titan, over HTTP/1.1 and HTTP/2: who may connect, how many, and how large a message may be are the gateway's business.
//   node -e 'const s = new (require("ws"))("ws://127.0.0.1:8080/room", "chat.v1", { origin: "https://app.example.com" }); s.on("message", (m) => console.log(`${m}`)); s.on("open", () => s.send("hello"))'
import { createGateway } from "@titan-gateway/titan";
import { WebSocketServer } from "ws";

const room = new WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols: () => "chat.v1" });
room.on("connection", (socket) => {
  socket.on("error", () => socket.terminate());
  socket.on("message", (data, binary) => {
    for (const member of room.clients) member.send(data, { binary });
  });
});
await new Promise((resolve) => room.once("listening", resolve));

const gateway = createGateway({
  server: { host: "127.0.0.1", port: Number(process.env.PORT ?? 8080) },
  logging: { log_requests: false },
  upstreams: [{ name: "room", backends: [{ host: "127.0.0.1", port: room.address().port }] }],
  routes: [
    {
      path: "/room",
      upstream: "room",
      websocket: {
        allowed_origins: ["https://*.example.com"],
        subprotocols: ["chat.v1"],
        max_connections: 1000,
        max_message_size: "64KiB",
        idle_timeout: "10m",
      },
    },
  ],
});
await gateway.start();
console.log(`listening on ${gateway.address().url}`);

process.once("SIGTERM", async () => {
  await gateway.close(); // members hear 1001 and come back to another instance
  room.close();
});
