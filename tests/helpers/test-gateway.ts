/** Test gateways that are closed after each test of the file that imports this. */
import { afterEach } from "vitest";
import type { ConfigInput } from "../../src/config/index.ts";
import { createTestGateway, type TestGateway, type TestGatewayOptions } from "../../src/testing/index.ts";

const open: TestGateway[] = [];
afterEach(async () => {
  for (const gateway of open.splice(0)) await gateway.close();
});

export async function start(config: ConfigInput, options?: TestGatewayOptions): Promise<TestGateway> {
  const gateway = await createTestGateway(config, options);
  open.push(gateway);
  return gateway;
}
