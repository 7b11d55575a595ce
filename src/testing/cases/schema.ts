/** What a file of test cases may say (`titan test`). */
import {
  boolean,
  duration,
  either,
  integer,
  isObject,
  list,
  map,
  type OutputOf,
  object,
  oneOf,
  raw,
  string,
} from "../../config/kit/index.ts";

const nothing = () => raw<null>("null", (value) => value === null, { type: "null" });
const json = () => raw<unknown>("JSON", (value) => value !== undefined);

/** Values of a header: one, or a list of so many fields. */
const headers = () =>
  map(
    either("text or a list of texts", {
      string: string(),
      number: integer(),
      boolean: boolean(),
      list: list(either("text", { string: string(), number: integer() })),
    }),
  );

/** A text that is expected. */
const matcher = () =>
  either("a text, null, or an object such as { contains: … }", {
    string: string(),
    number: raw<number>("a number", (value) => typeof value === "number", { type: "number" }),
    boolean: boolean(),
    null: nothing(),
    object: object(
      {
        contains: string().optional().doc("A part of the text."),
        matches: string({ check: regexProblem, code: "bad_regex" })
          .optional()
          .doc("A regular expression (of JavaScript) that fits."),
        not: string().optional().doc("Another text, or none, is there."),
        absent: boolean().optional().doc("Nothing is there; the same as `null`."),
        present: boolean().optional().doc("Something is there."),
      },
      {
        check: (value, cx) => {
          if (Object.keys(value).length === 0)
            cx.report({ code: "empty", message: "says nothing: give it contains, matches, not, absent or present" });
        },
      },
    ),
  });

/** What a played backend answers. */
const fakeFields = {
  status: integer({ min: 200, max: 599 }).default(200),
  headers: headers().default({}),
  body: string({ max: 10_000_000 }).optional().doc("The body as text."),
  json: json().optional().doc("The body as JSON, with its `content-type`."),
  trailers: map(string()).default({}).doc("Fields behind the body, such as `grpc-status`."),
  delay: duration("ms", { min: 0, max: 60_000 }).default(0).doc("How long the answer takes, in real time."),
  reset: boolean().default(false).doc("Break the connection instead of answering."),
};
const fake = () =>
  either("a status, or an object with status, headers, body or json", {
    number: integer({ min: 200, max: 599 }),
    object: object(fakeFields, { check: bodyOnce }),
  });
const fakes = () =>
  map(
    either("an answer, or a list of answers", {
      number: integer({ min: 200, max: 599 }),
      object: object(fakeFields, { check: bodyOnce }),
      list: list(fake(), { min: 1 }),
    }),
  );

const requestFields = {
  method: string({ min: 1 }).default("GET"),
  url: string({ min: 1 })
    .doc("`https://host/path?query`, or a path alone. Sent as it is written.")
    .example("https://api.example.com/users/7"),
  headers: headers().default({}),
  body: string({ max: 10_000_000 }).optional(),
  json: json().optional().doc("A body as JSON, with its `content-type`."),
  client_ip: string().optional().doc("Address of the client. Default: 127.0.0.1."),
  identity: object({
    subject: string().optional(),
    claims: raw<Record<string, unknown>>("an object", isObject, { type: "object" }).default({}),
  })
    .optional()
    .doc(
      "Whose JSON Web Token the request carries: signed for the test, verified as any other. `iss`, `aud` and `exp` are filled in.",
    ),
  client_certificate: object({
    subject: string({ min: 1 }),
    common_name: string().optional(),
    sans: list(string(), { single: true }).default([]),
    fingerprint: string().optional(),
  })
    .optional()
    .doc("A client certificate that the listener has verified; the URL is `https`."),
  listener: string().optional().doc("Name of the listener. Default: the first of the URL's scheme."),
  http2: boolean().default(false).doc("Sends it over HTTP/2, as gRPC asks for."),
  websocket: either("true or false, or a list of subprotocols", {
    boolean: boolean(),
    list: list(string(), { min: 1 }),
  })
    .default(false)
    .doc("Asks for a WebSocket; a list offers subprotocols. Frames are not played."),
};

/** A verdict of a policy. */
export const VERDICTS = ["passed", "answered", "skipped", "not_reached"] as const;

const expectFields = {
  status: either("a status such as 200, a class such as 2xx, or a list of them", {
    number: integer({ min: 100, max: 599 }),
    string: string({ check: statusProblem }),
    list: list(
      either("a status or a class", {
        number: integer({ min: 100, max: 599 }),
        string: string({ check: statusProblem }),
      }),
      { min: 1 },
    ),
  }).optional(),
  headers: map(matcher()).optional().doc("Headers of the answer; `null`: not there."),
  body: matcher().optional().doc("The answer's body as text."),
  json: json().optional().doc("What the answer's JSON holds: objects may hold more, lists are whole."),
  trailers: map(matcher()).optional().doc("Fields behind the answer's body; `null`: not there."),
  grpc_status: integer({ min: 0, max: 1_000 }).optional().doc("`grpc-status`, from the trailers or the headers."),
  upgraded: boolean().optional().doc("Whether a WebSocket (or another tunnel) was opened."),
  route: matcher().optional().doc("Name of the route; `null`: none."),
  params: map(matcher()).optional().doc("Path parameters."),
  upstream: matcher().optional().doc("Name of the upstream; `null`: none."),
  backend: matcher().optional().doc("`host:port` of the backend that got the request last; `null`: none."),
  answered_by: matcher().optional().doc("Name of the policy or hook that answered; `null`: none."),
  stage: matcher()
    .optional()
    .doc("Stage of an answer of Titan's own, such as `rate_limit`; `null`: the answer is not Titan's."),
  client_ip: matcher().optional().doc("Address of the client, as policies see it."),
  subject: matcher().optional().doc("Who was authenticated."),
  tries: integer({ min: 0, max: 1_000 }).optional().doc("Requests that went to the upstream."),
  policies: map(oneOf(VERDICTS)).optional().doc("Verdicts of policies, by name or type."),
  hooks: list(string()).optional().doc("Names of the hooks that were called, in order (`onLog` aside)."),
  forwarded: either("an object, or null", {
    null: nothing(),
    object: object({
      method: matcher().optional(),
      path: matcher().optional(),
      query: matcher().optional().doc("Without the `?`."),
      headers: map(matcher()).optional(),
      body: matcher().optional(),
      json: json().optional().doc("What its JSON body holds: objects may hold more, lists are whole."),
    }),
  })
    .optional()
    .doc("What the upstream received; `null`: nothing."),
};

const expectation = () => object(expectFields, { title: "Expectations", aliases: { upstream_request: "forwarded" } });
const request = () =>
  either("a line such as `GET /users`, or an object", {
    string: string({ min: 1, check: requestProblem, code: "bad_request" }),
    object: object(requestFields, { title: "Request", check: bodyOnce }),
  });
const repeat = () =>
  integer({ min: 1, max: 10_000 }).default(1).doc("Sends the request so many times; `expect` is about the last one.");

const caseFields = {
  name: string({ min: 1 }),
  request: request().optional(),
  repeat: repeat(),
  expect: expectation().optional(),
  steps: list(
    object(
      {
        request: request().optional(),
        repeat: repeat(),
        advance: duration("ms", { min: 0 })
          .optional()
          .doc("Before the request, moves the clock of limits and circuits ahead."),
        expect: expectation().optional(),
      },
      {
        title: "Step",
        check: (value, cx) => {
          if (value.request === undefined && value.advance === undefined)
            cx.report({ code: "missing", message: "does nothing: give it a `request` or `advance`" });
          if (value.expect !== undefined && value.request === undefined)
            cx.report({ code: "missing", message: "expects something of no request" });
        },
      },
    ),
    { min: 1 },
  )
    .optional()
    .doc("Several requests to one gateway, instead of one."),
  upstreams: fakes().optional().doc("Answers of upstreams in this case, over those of the file."),
  skip: boolean().default(false).doc("Leaves the case out."),
};

/** The whole file. */
export const testFile = object(
  {
    $schema: string().optional(),
    config: string({ min: 1 })
      .optional()
      .doc(
        "The configuration under test, from this file's folder. Default: the one that `titan serve` would find there.",
      ),
    mode: string().optional().doc("`mode` of a function configuration."),
    env: map(either("text", { string: string(), number: integer(), boolean: boolean() }))
      .default({})
      .doc("Variables of the configuration, over those of the environment."),
    upstreams: fakes()
      .optional()
      .doc(
        "What upstreams answer, by their names; a list is answered in turn, the last one then stays. Without it, every upstream answers 200 with an empty body.",
      ),
    services: fakes()
      .default({})
      .doc("What services that Titan asks answer, by their URL in the configuration: forward-auth, key sets."),
    cases: list(
      object(caseFields, {
        title: "Case",
        check: (value, cx) => {
          if ((value.request === undefined) === (value.steps === undefined))
            cx.report({ code: "missing", message: "has either a `request` or `steps`" });
          if (value.steps !== undefined && value.expect !== undefined)
            cx.report(
              { code: "misplaced_key", message: "`expect` of a case with `steps` stands in its steps" },
              "expect",
            );
        },
      }),
      { min: 1 },
    ).doc("Each with a gateway of its own."),
  },
  // A typo in an expectation would be a test that can't fail.
  { guarded: true },
);

/** A file, resolved. */
export type TestFile = OutputOf<typeof testFile>;
/** A case. */
export type TestCase = TestFile["cases"][number];
/** A step: a case without `steps` is one. */
export type TestStep = NonNullable<TestCase["steps"]>[number];
/** What is expected. */
export type Expectation = NonNullable<TestStep["expect"]>;
/** What a request is. */
export type TestRequest = NonNullable<TestStep["request"]>;
/** A text that is expected. */
export type Matcher = OutputOf<ReturnType<typeof matcher>>;
/** Answers of an upstream. */
export type FakeAnswers = NonNullable<TestFile["upstreams"]>[string];
/** One answer. */
export type FakeAnswer = Exclude<FakeAnswers, readonly unknown[]>;
/** Values of a header. */
export type HeaderValues = OutputOf<ReturnType<typeof headers>>;

/** A request as a line: `POST /orders`, or a URL alone. */
export function parseLine(line: string): { method: string; url: string } | undefined {
  const match = /^(?:([A-Za-z]+)\s+)?(\S+)$/.exec(line.trim());
  return match ? { method: (match[1] ?? "GET").toUpperCase(), url: match[2] as string } : undefined;
}

function requestProblem(line: string): string | undefined {
  const parsed = parseLine(line);
  if (parsed && /^(https?:\/\/|\/)/i.test(parsed.url)) return undefined;
  return `must be a method and a URL or path, such as "GET /users" or "https://host/users", not ${JSON.stringify(line)}`;
}

function statusProblem(text: string): string | undefined {
  return /^[1-5](xx|\d\d)$/i.test(text)
    ? undefined
    : `must be a status such as 200 or a class such as "2xx", not ${JSON.stringify(text)}`;
}

function regexProblem(text: string): string | undefined {
  try {
    new RegExp(text);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function bodyOnce(
  value: Record<string, unknown>,
  cx: { report(finding: { code: string; message: string }, ...below: string[]): void },
): void {
  if (value.body !== undefined && value.json !== undefined)
    cx.report({ code: "said_twice", message: "a message has a `body` or `json`, not both" }, "json");
}
