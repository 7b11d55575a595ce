/** The chaos suite's case of streams, in short. */
import { afterAll, expect, test } from "vitest";
import { streams } from "../chaos/cases/reload.mjs";
import { clean } from "../chaos/world.mjs";

afterAll(clean);

test("WebSocket, SSE and gRPC streams live through reloads, and no old configuration stays", async () => {
  const { figure, good } = await streams.run("titan", { reloads: 10, each: 2 });
  expect(good, figure).toBe(true);
}, 120_000);
