/** `explain` against reality: random routing tables, random requests, and every verdict compared with what the running gateway does. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ConfigInput } from "../../src/config/index.ts";
import { createGateway, type Explanation, type Gateway } from "../../src/index.ts";
import { type Backend, startBackend } from "../helpers/backend.ts";
import { RawClient, status } from "../helpers/client.ts";
import { field } from "../helpers/message.ts";

const TABLES = 25;
const REQUESTS = 50;

let backends: Backend[];
beforeAll(async () => {
  backends = await Promise.all(
    ["one", "two"].map((name) =>
      startBackend({
        name,
        answer: (request, response) => {
          response.writeHead(200, { "x-backend": name, "x-target": request.url ?? "", "content-length": 0 }).end();
        },
      }),
    ),
  );
});
afterAll(() => Promise.all(backends.map((backend) => backend.close())));

/** Numbers that are the same in every run (mulberry32). */
class Dice {
  #state: number;
  constructor(seed: number) {
    this.#state = seed;
  }
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }
  below(n: number): number {
    return Math.floor(this.next() * n);
  }
  one<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
  chance(share: number): boolean {
    return this.next() < share;
  }
}

const LITERALS = ["a", "b", "c", "x.y", "_health", "services", "alive"];
const HOSTS = ["a.test", "b.a.test", "*.test", "*.a.test"];

function route(dice: Dice, index: number): Record<string, unknown> {
  const segments = Array.from({ length: dice.below(4) }, (_, at) =>
    dice.chance(0.3) ? `:p${at}` : dice.one(LITERALS),
  );
  const wild = dice.chance(0.4);
  const path = `/${[...segments, ...(wild ? ["*"] : [])].join("/")}`;
  const first = segments.find((segment) => segment.startsWith(":"));
  const made: Record<string, unknown> = { name: `r${index}`, path };
  if (dice.chance(0.3)) made.host = dice.one(HOSTS);
  if (dice.chance(0.4)) made.methods = dice.one([["GET"], ["POST", "PUT"], ["HEAD"], ["OPTIONS"], ["REPORT", "GET"]]);
  if (dice.chance(0.3)) made.priority = dice.below(3) - 1;
  if (dice.chance(0.2)) made.headers = dice.one([{ "X-A": "1" }, [{ name: "X-A", regex: "[12]", invert: true }]]);
  if (dice.chance(0.2)) made.query = dice.one([{ q: "1" }, [{ name: "q", prefix: "a b" }], [{ name: "q" }]]);
  if (dice.chance(0.1)) made.cookies = { c: "1" };
  if (dice.chance(0.2)) made.middleware = [{ type: "cors", config: { allowed_origins: ["https://a.test"] } }];
  const kind = dice.below(10);
  if (kind === 0) made.redirect = { status: 308, location: `/r${wild ? "/*" : ""}$query` };
  else if (kind === 1) made.respond = { status: 418 };
  else {
    made.upstream = dice.one(["one", "two"]);
    const rewrite = dice.below(7);
    if (rewrite === 0)
      made.rewrite_path = `/new${first ? `/${first}` : ""}${wild ? "/*" : ""}${dice.one(["", "?s=1"])}`;
    if (rewrite === 1) made.strip_prefix = `/${segments[0]?.startsWith(":") === false ? segments[0] : "a"}`;
    if (rewrite === 2) made.add_prefix = "/pre";
    if (rewrite === 3)
      made.rewrite_regex = [
        { pattern: "^/(a|b)/(.*)$", replacement: dice.one(["/$2/$1", "/../$1", "/$2?r=1", "//$1;x"]) },
      ];
    if (dice.chance(0.3))
      made.transform = {
        query_params: [
          dice.one([
            { action: "add", name: "t", value: `\${path}` },
            { action: "remove", name: "q" },
            { action: "modify", name: "q", value: `new \${method}` },
          ]),
        ],
      };
  }
  return made;
}

function table(dice: Dice): ConfigInput {
  return {
    server: { host: "127.0.0.1", port: 0, workers: 1 },
    logging: { log_requests: false },
    metrics: { enabled: false },
    upstreams: backends.map(({ name, port }) => ({ name, backends: [{ host: "127.0.0.1", port }] })),
    routes: Array.from({ length: 3 + dice.below(12) }, (_, index) => route(dice, index)),
    // Says on every answer which route it was.
    ...(dice.chance(0.2) && { cors: { allowed_origins: ["https://a.test"], allowed_methods: ["GET", "REPORT"] } }),
    middleware: [{ type: "headers", config: { response: [{ name: "X-Route", value: `\${route}` }] } }],
    health: { paths: { "/alive": "live" } },
  } as unknown as ConfigInput;
}

interface Asked {
  method: string;
  host: string;
  target: string;
  headers: [string, string][];
}

function request(dice: Dice): Asked {
  const spelt = ["%61", "..", ".", "", "a;v=1", "x%2ey", "%2F", "%zz", "d%20e", "%C3%A9", "B"];
  const segments = Array.from({ length: 1 + dice.below(4) }, () => dice.one(dice.chance(0.25) ? spelt : LITERALS));
  const query = dice.one(["", "", "?q=1", "?q=a+b", "?q=a%20bc&z", "?Q=1&q=2", "?"]);
  const headers: [string, string][] = [];
  if (dice.chance(0.3)) headers.push(["X-A", dice.one(["1", "2", "3"])]);
  if (dice.chance(0.2)) headers.push(["Cookie", dice.one(["c=1", "d=2; c=1", "c=2"])]);
  const method = dice.one(["GET", "GET", "GET", "POST", "PUT", "HEAD", "OPTIONS", "REPORT", "PURGE"]);
  if (dice.chance(method === "OPTIONS" ? 0.7 : 0.1)) {
    headers.push(["Origin", dice.one(["https://a.test", "https://b.test"])]);
    headers.push(["Access-Control-Request-Method", dice.one(["GET", "PUT", "REPORT"])]);
  }
  const target = method === "OPTIONS" && dice.chance(0.1) ? "*" : `/${segments.join("/")}${query}`;
  return {
    method,
    host: dice.one(["a.test", "A.test:80", "b.a.test.", "c.b.a.test", "other", "bad host"]),
    target,
    headers,
  };
}

/** What a request met, in the words that an explanation is compared in. */
async function real(client: RawClient, { method, host, target, headers }: Asked) {
  const before = client.finals.length;
  const fields = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  client.write(`${method} ${target} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`);
  await client.until(() => client.finals.length > before, 15_000);
  const answer = client.finals[before];
  if (!answer) throw new Error(`no answer to ${method} ${target}: ${client.raw.toString("latin1").slice(-300)}`);
  return {
    status: status(answer),
    route: field(answer, "x-route"),
    backend: field(answer, "x-backend"),
    target: field(answer, "x-target"),
    location: field(answer, "location"),
    allow: field(answer, "allow"),
  };
}

/** The same words, as the explanation foretells them. */
function foretold(told: Explanation) {
  const none = { route: undefined, backend: undefined, target: undefined, location: undefined, allow: undefined };
  // The CORS policy answers; whether it allows is another question.
  if (told.preflight) return { ...none, route: told.route?.name };
  switch (told.outcome) {
    case "refused":
      return { ...none, status: 400 };
    case "no_route":
      return { ...none, status: 404 };
    case "method_not_allowed":
      return { ...none, status: 405, allow: told.allow };
    case "builtin":
      return told.builtin === "options" ? { ...none, status: 204 } : { ...none, status: 200 };
    case "route": {
      const { name, action } = told.route as NonNullable<Explanation["route"]>;
      const taken = { ...none, route: name };
      if (action.type === "redirect") return { ...taken, status: action.status, location: action.location };
      if (action.type === "fixed") return { ...taken, status: action.status };
      if (action.type === "refused") return { ...taken, status: 400 };
      return { ...taken, status: 200, backend: action.upstream, target: action.target };
    }
  }
}

test(`what explain says of ${TABLES * REQUESTS} requests is what happens to them`, { timeout: 180_000 }, async () => {
  const gateway: Gateway = createGateway(table(new Dice(0)));
  await gateway.start();
  const outcomes = new Map<string, number>();
  try {
    for (let seed = 1; seed <= TABLES; seed++) {
      const dice = new Dice(seed);
      await gateway.reload(table(dice));
      let client = await RawClient.connect(gateway.address()?.port ?? 0);
      for (let turn = 0; turn < REQUESTS; turn++) {
        const asked = request(dice);
        client = client.closed ? await RawClient.connect(gateway.address()?.port ?? 0) : client;
        client.methods[client.finals.length] = asked.method;
        const told = gateway.explain({ ...asked, client_ip: "127.0.0.1" });
        const met: Partial<Awaited<ReturnType<typeof real>>> = await real(client, asked);
        const wanted = foretold(told);
        const kind = told.route ? `${told.preflight ? "preflight" : told.route.action.type}` : told.outcome;
        outcomes.set(kind, (outcomes.get(kind) ?? 0) + 1);
        if (!("status" in wanted)) {
          expect([204, 403]).toContain(met.status);
          delete met.status;
          delete met.allow;
        }
        if (told.builtin === "options") delete met.allow;
        expect({ seed, asked, ...met }, JSON.stringify(told)).toEqual({ seed, asked, ...wanted });
        if (met.status === 400) client.destroy();
        if (met.status === 400) client = await RawClient.connect(gateway.address()?.port ?? 0);
      }
      client.destroy();
    }
  } finally {
    await gateway.close();
  }
  // All of them were tried.
  for (const kind of [
    "proxy",
    "redirect",
    "fixed",
    "preflight",
    "refused",
    "no_route",
    "method_not_allowed",
    "builtin",
  ])
    expect(outcomes.get(kind) ?? 0, kind).toBeGreaterThan(0);
});

test("the query of rewrite_path comes before the request's own, whatever rules there are for that", async () => {
  const [one] = backends as [Backend];
  await using gateway = createGateway({
    server: { host: "127.0.0.1", port: 0, workers: 1 },
    logging: { log_requests: false },
    metrics: { enabled: false },
    upstreams: [{ name: "one", backends: [`127.0.0.1:${one.port}`] }],
    routes: [
      {
        path: "/x",
        upstream: "one",
        rewrite_path: "/y?a=1",
        transform: {
          query_params: [
            { action: "add", name: "b", value: "3" },
            { action: "remove", name: "secret" },
          ],
        },
      },
    ],
  });
  await gateway.start();
  const answer = await fetch(`${gateway.address()?.url}/x?q=2&secret=z`);
  expect(answer.headers.get("x-target")).toBe("/y?a=1&q=2&b=3");
  const told = gateway.explain({ method: "GET", host: "h", target: "/x?q=2&secret=z" });
  expect(told.route?.action).toMatchObject({ target: "/y?a=1&q=2&b=3" });
});
