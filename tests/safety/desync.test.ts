// V9: one request's bytes must never become another's answer: bodies that are owed, answers that come early, answers that bring too much.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { exchange, get, RawClient, status } from "../helpers/client.ts";
import type { Message } from "../helpers/message.ts";
import { echo, type OriginConnection } from "../helpers/origin.ts";
import { attack, expectAlive, LONG, openStage, type Stage } from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
});
afterAll(async () => {
  await expectAlive(stage);
  await stage.close();
});

/** Attacks and honest requests in turn, several at a time: each honest one must get its own answer. */
const ROUNDS = LONG ? 1000 : 100;

async function alternate(attackOnce: (round: number) => Promise<unknown>, concurrency = 8): Promise<void> {
  let next = 0;
  const wrong: string[] = [];
  const worker = async () => {
    for (let round = next++; round < ROUNDS; round = next++) {
      await attackOnce(round);
      const target = `/honest-${round}`;
      const answer = await get(stage.titan.port, target);
      if (answer.status !== 200 || answer.body !== `GET ${target} HTTP/1.1`)
        wrong.push(`${target}: ${answer.raw.toString("latin1")}`);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  expect(wrong).toEqual([]);
}

const isAttack = (request: Message) => / \/attack/.test(request.start);
const answer = (connection: OriginConnection, text: string) => connection.socket.write(text);

describe("V9 answers that bring too much", () => {
  const STOLEN = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
  test.each([
    ["a second answer behind the first", `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok${STOLEN}`],
    ["body bytes beyond the length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore"],
    ["a body on 204", `HTTP/1.1 204 No Content\r\n\r\n${STOLEN}`],
    ["a body on 304", `HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n${STOLEN}`],
    [
      "bytes behind the last chunk",
      `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n${STOLEN}`,
    ],
    ["bytes behind an empty answer", `HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n${STOLEN}`],
  ])("%s: the connection is not used again", async (_, text) => {
    stage.origin.behave({
      onRequest: (request, connection) => (isAttack(request) ? answer(connection, text) : echo(request, connection)),
    });
    await alternate((round) => get(stage.titan.port, `/attack-${round}`));
    for (const { requests } of stage.origin.connections) {
      const first = requests.findIndex(isAttack);
      if (first >= 0) expect(requests.slice(first + 1).map(({ start }) => start)).toEqual([]);
    }
    stage.origin.reset();
  });

  test("a body on the answer to HEAD", async () => {
    stage.origin.behave({
      onRequest: (request, connection) =>
        request.start.startsWith("HEAD ")
          ? answer(connection, `HTTP/1.1 200 OK\r\nContent-Length: 47\r\n\r\n${STOLEN}`)
          : echo(request, connection),
    });
    await alternate((round) =>
      exchange(stage.titan.port, `HEAD /attack-${round} HTTP/1.1\r\nHost: t.test\r\n\r\n`, {
        methods: ["HEAD"],
        linger: 0,
      }),
    );
    stage.origin.reset();
  });

  test("an answer that nobody asked for, on an idle connection", async () => {
    stage.origin.behave({
      onRequest(request, connection) {
        echo(request, connection);
        if (isAttack(request)) setTimeout(() => answer(connection, STOLEN), 1);
      },
    });
    // One at a time: an answer that comes in while another request is being written on the same connection can't be told from its own.
    await alternate(async (round) => {
      await get(stage.titan.port, `/attack-${round}`);
      await sleep(15);
    }, 1);
    stage.origin.reset();
  });
});

describe("V9 bodies that are owed", () => {
  test("an answer before the body has come: the connection is not used again", async () => {
    stage.origin.behave({
      onData(data, connection) {
        if (data.includes("POST /attack")) answer(connection, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
      },
      onRequest: (request, connection) => (isAttack(request) ? undefined : echo(request, connection)),
    });
    await alternate(async (round) => {
      const client = await RawClient.connect(stage.titan.port);
      client.write(`POST /attack-${round} HTTP/1.1\r\nHost: t.test\r\nContent-Length: 60\r\n\r\n`);
      await client.until(() => client.finals.length > 0, 3000);
      expect(client.finals.map(status)).toEqual([200]);
      // What was owed comes now, dressed as a request.
      client.write(`GET /stolen-${round} HTTP/1.1\r\nHost: t.test\r\nX: 1234567890\r\n\r\n`);
      await sleep(5);
      client.destroy();
    });
    for (const { requests, received } of stage.origin.connections) {
      expect(requests.filter(({ start }) => start.includes("/stolen"))).toEqual([]);
      // The body never came whole, so nobody else's request may stand behind it.
      expect(
        received.toString("latin1").split("POST /attack").slice(1).join(),
        `requests: ${requests.length}`,
      ).not.toContain("GET /honest");
    }
    stage.origin.reset();
  });

  test("a client that goes away in the middle of its body", async () => {
    stage.origin.behave({});
    await alternate(async (round) => {
      const client = await RawClient.connect(stage.titan.port);
      client.write(
        `POST /attack-${round} HTTP/1.1\r\nHost: t.test\r\nContent-Length: 100\r\n\r\nGET /stolen HTTP/1.1\r\nHost: x`,
      );
      await sleep(5);
      client.destroy();
    });
    expect(stage.origin.requests.filter(({ start }) => start.includes("/stolen"))).toEqual([]);
    stage.origin.reset();
  });

  test("0.CL: a GET with a body keeps its body", async () => {
    stage.origin.behave({});
    const hidden = "GET /stolen HTTP/1.1\r\nHost: t.test\r\n\r\n";
    const result = await attack(
      stage,
      `GET /a HTTP/1.1\r\nHost: t.test\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}GET /b HTTP/1.1\r\nHost: t.test\r\n\r\n`,
      { answers: 2 },
    );
    expect(result.answers.map(({ body }) => body.toString())).toEqual(["GET /a HTTP/1.1", "GET /b HTTP/1.1"]);
    expect(stage.origin.requests.map(({ start }) => start).sort()).toEqual(["GET /a HTTP/1.1", "GET /b HTTP/1.1"]);
  });

  test("CL.0: an origin that does not read the body gets no second use of the connection for what it left", async () => {
    // The origin takes the body for the next request and answers both at once.
    const hidden = "GET /stolen HTTP/1.1\r\nHost: t.test\r\n\r\n";
    stage.origin.behave({
      onRequest(request, connection) {
        if (!isAttack(request)) return echo(request, connection);
        answer(
          connection,
          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
        );
      },
    });
    await alternate((round) =>
      exchange(
        stage.titan.port,
        `POST /attack-${round} HTTP/1.1\r\nHost: t.test\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`,
        { linger: 0 },
      ),
    );
    stage.origin.reset();
  });

  test("pipelined requests get their answers in order", async () => {
    stage.origin.behave({
      onRequest: (request, connection) =>
        void setTimeout(() => echo(request, connection), request.start.includes("slow") ? 20 : 0),
    });
    const targets = Array.from({ length: 20 }, (_, n) => `/${n % 3 ? "fast" : "slow"}-${n}`);
    const result = await attack(
      stage,
      targets.map((target) => `GET ${target} HTTP/1.1\r\nHost: t.test\r\n\r\n`).join(""),
      { answers: 20, timeout: 8000 },
    );
    expect(result.answers.map(({ body }) => body.toString())).toEqual(
      targets.map((target) => `GET ${target} HTTP/1.1`),
    );
  });
});

describe("V9 Expect: 100-continue", () => {
  const head = (round: number, expectation = "100-continue") =>
    `POST /attack-${round} HTTP/1.1\r\nHost: t.test\r\nContent-Length: 5\r\nExpect: ${expectation}\r\n\r\n`;

  test("a final answer instead of 100: the body that may or may not come is never a request", async () => {
    stage.origin.behave({
      onData(data, connection) {
        if (data.includes("POST /attack")) answer(connection, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
      },
      onRequest: (request, connection) => (isAttack(request) ? undefined : echo(request, connection)),
    });
    await alternate(async (round) => {
      const client = await RawClient.connect(stage.titan.port);
      client.write(head(round));
      await client.until(() => client.finals.length > 0, 3000);
      // Titan may have asked for the body itself (100) before the origin answered.
      expect(client.finals.map(status)).toEqual([403]);
      client.write(`GET /stolen-${round} HTTP/1.1\r\nHost: t.test\r\n\r\n`);
      await client.until(() => client.finals.length > 1, 20);
      // Either closed, or the five bytes are body and what is left is no request.
      for (const late of client.finals.slice(1)) expect(late.body.toString()).not.toContain("/stolen");
      client.destroy();
    });
    expect(stage.origin.requests.filter(({ start }) => start.includes("/stolen"))).toEqual([]);
    stage.origin.reset();
  });

  test("an unknown expectation is refused with 417", async () => {
    stage.origin.behave({});
    const result = await attack(stage, `${head(0, "200-ok")}hello`);
    expect(result.statuses).toEqual([417]);
    expect(stage.origin.requests).toEqual([]);
  });

  test("with 100 the body arrives whole", async () => {
    stage.origin.behave({
      onData: (data, connection) =>
        void (/^expect:/im.test(data.toString()) && answer(connection, "HTTP/1.1 100 Continue\r\n\r\n")),
    });
    const client = await RawClient.connect(stage.titan.port);
    stage.origin.reset();
    await sleep(10);
    client.write(head(0));
    await client.until(() => client.answers.some((one) => status(one) === 100), 3000);
    client.write("hello");
    await client.until(() => client.finals.length > 0, 3000);
    client.destroy();
    expect(client.answers.map(status)).toEqual([100, 200]);
    expect(stage.origin.requests[0]?.body.toString()).toBe("hello");
  });
});

describe("V9 broken answers", () => {
  test.each([
    ["two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!"],
    [
      "length and chunked",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ],
    ["a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"],
    ["an unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: cow\r\n\r\nok"],
    ["bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"],
    ["a folded field", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok"],
    ["NUL in a field", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok"],
    ["a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"],
    ["no HTTP at all", "SSH-2.0-OpenSSH_9.2\r\n\r\n"],
    ["a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"],
    ["101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"],
    ["an endless head", `HTTP/1.1 200 OK\r\n${"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(8000)}\r\n`],
  ])("%s: 502", async (_, text) => {
    stage.origin.behave({
      onRequest: (request, connection) => (isAttack(request) ? answer(connection, text) : echo(request, connection)),
    });
    const result = await attack(stage, "GET /attack HTTP/1.1\r\nHost: t.test\r\n\r\n");
    expect(result.statuses, result.raw.toString("latin1")).toEqual([502]);
    expect((await get(stage.titan.port, "/honest")).body).toBe("GET /honest HTTP/1.1");
  });

  test("a chunked answer that breaks off is not ended as if it were whole", async () => {
    stage.origin.behave({
      onRequest(_, connection) {
        answer(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        setTimeout(() => connection.socket.end(), 20);
      },
    });
    const result = await attack(stage, "GET /attack HTTP/1.1\r\nHost: t.test\r\n\r\n", { answers: 0, timeout: 2000 });
    expect(result.closed).toBe(true);
    expect(result.raw.toString()).toContain("hello");
    expect(result.raw.toString()).not.toContain("0\r\n\r\n");
  });

  test("an answer shorter than its length is cut off, not completed", async () => {
    stage.origin.behave({
      onRequest: (_, connection) => void connection.socket.end("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"),
    });
    const result = await attack(stage, "GET /attack HTTP/1.1\r\nHost: t.test\r\n\r\n", { answers: 0, timeout: 2000 });
    expect(result.closed).toBe(true);
    expect(result.answers).toHaveLength(0);
  });
});
