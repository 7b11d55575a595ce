// The same configuration in Vitest: for what a table of cases does not say. `npx vitest run`
import { join } from "node:path";
import { createTestGateway, type TestGateway } from "@titan-gateway/titan/testing";
import { afterAll, beforeAll, expect, it } from "vitest";

const stock = new Map([["7", { id: "7", name: "tea" }]]);
let gateway: TestGateway;

beforeAll(async () => {
  gateway = await createTestGateway(join(import.meta.dirname, "titan.config.ts"), {
    upstreams: {
      catalogue: ({ path }) => {
        const item = stock.get(path.replace("/v2/items/", ""));
        return item ? Response.json(item) : new Response(null, { status: 404 });
      },
      orders: (order) => Response.json({ by: order.headers.get("x-user-id"), order: order.json() }, { status: 201 }),
    },
  });
});
afterAll(() => gateway.close());

it("gives the catalogue's answers", async () => {
  const tea = await gateway.inject("https://api.example.com/items/7");
  expect([tea.status, tea.json(), tea.route]).toEqual([200, { id: "7", name: "tea" }, "items"]);
  expect((await gateway.inject("/items/8")).status).toBe(404);
});

it("spreads the catalogue's load", async () => {
  const backends = new Set<string | undefined>();
  for (let i = 0; i < 4; i++) backends.add((await gateway.inject("/items/7")).backend);
  expect([...backends].sort()).toEqual(["catalogue-1.internal:3000", "catalogue-2.internal:3000"]);
});

it.each([
  [20, [], 201],
  [1_001, [], 403],
  [1_001, ["staff"], 201],
])("an order of %i by a member of %j gets %i", async (total, groups, status) => {
  const result = await gateway.inject({
    method: "POST",
    url: "/orders/",
    json: { total },
    identity: { subject: `user-${total}-${groups}`, claims: { groups } },
  });
  expect(result.status).toBe(status);
  expect(result.hooks[0]).toMatchObject({ hook: "limit", outcome: status === 201 ? "continued" : "answered" });
  expect(result.forwarded === undefined).toBe(status !== 201);
});

it("refuses what is no JSON before anybody sees it", async () => {
  const result = await gateway.inject({ method: "POST", url: "/orders/", body: "{", identity: { subject: "jo" } });
  expect([result.status, result.forwarded]).toEqual([400, undefined]);
});
