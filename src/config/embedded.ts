/** What Titan serves where no configuration is found: a demo route that answers through a real upstream hop. */
import type { ConfigInput } from "./schema/root.ts";

/** Loopback only: a gateway that nobody configured must not answer the network. */
export function embeddedConfig(echo: { host: string; port: number } = { host: "127.0.0.1", port: 8081 }): ConfigInput {
  return {
    description: "Embedded default: no configuration file was found.",
    server: { host: "127.0.0.1", port: 8080 },
    upstreams: [{ name: "echo", backends: [{ host: echo.host, port: echo.port }] }],
    routes: [{ name: "demo", path: "/*", upstream: "echo" }],
  };
}
