import { expect, it } from "vitest";
import { type HookLogLine, HookThread } from "./dispatch.ts";
import { planHook } from "./plan.ts";
import type { HookInput } from "./types.ts";

/** A call as the data plane lays it out; the values are Latin-1. */
function call(
  hook: number,
  point: number,
  context: number,
  slot: number,
  values: readonly (string | undefined)[],
): Buffer {
  const parts = values.map((value) => Buffer.from(value ?? "", "latin1"));
  const head = 32 + 4 * values.length;
  const size = (head + parts.reduce((sum, part) => sum + part.length, 0) + 3) & ~3;
  const record = Buffer.alloc(size);
  record.writeUInt32LE(size, 0);
  record.writeUInt32LE(slot, 4);
  record.writeUInt16LE(hook, 14);
  record[16] = point;
  record.writeUInt32LE(context, 20);
  record.writeUInt32LE(values.length, 28);
  let end = head;
  for (const [index, part] of parts.entries()) {
    part.copy(record, end);
    end += part.length;
    record.writeUInt32LE(values[index] === undefined ? end + 0x8000_0000 : end, 32 + 4 * index);
  }
  return record;
}

/** The data plane's side. */
class FakeChannel {
  static last: FakeChannel;
  readonly id = 1;
  closed = false;
  waiting: Buffer[] = [];
  readonly replies: Buffer[] = [];
  readonly wake: () => void;
  constructor(wake: () => void) {
    this.wake = wake;
    FakeChannel.last = this;
  }
  exchange(replies: Buffer, length: number, calls: Buffer): number {
    for (let at = 0; at < length; at += replies.readUInt32LE(at))
      this.replies.push(Buffer.from(replies.subarray(at, at + replies.readUInt32LE(at))));
    const all = Buffer.concat(this.waiting);
    if (all.length > calls.length) return -all.length;
    this.waiting = [];
    all.copy(calls);
    return all.length;
  }
  stalled = () => 0;
  dropped = () => 0;
  close(): void {
    this.closed = true;
  }
}

function thread(input: HookInput) {
  const lines: HookLogLine[] = [];
  const plan = planHook("test", { reads: {}, ...input }, () => undefined);
  const made = new HookThread(
    FakeChannel as never,
    [plan],
    (line) => void lines.push(line),
    () => undefined,
  );
  const channel = FakeChannel.last;
  const base = ["/path", "GET", "route", "id-1"];
  return { thread: made, channel, lines, plan, base };
}

const outcome = (reply: Buffer | undefined) => reply?.[16];
const context = (reply: Buffer | undefined) => reply?.readUInt32LE(20);

it("answers a batch in one go, in order, and grows its buffer for a large call", () => {
  const { channel, base } = thread({
    onRequest: (ctx) => (ctx.request.path === "/path" ? undefined : ctx.respond(204)),
  });
  channel.waiting = [
    call(0, 0, 0, 7, base),
    call(0, 0, 0, 8, [`/${"x".repeat(300_000)}`, ...base.slice(1)]),
    call(9, 0, 0, 9, base),
  ];
  channel.wake();
  expect(channel.replies.map((reply) => [reply.readUInt32LE(4), reply[16]])).toEqual([
    [7, 0],
    [8, 1],
    [9, 0],
  ]);
});

it("what a hook attaches lives until it is released, and goes at once where the call fails", () => {
  const {
    thread: one,
    channel,
    base,
  } = thread({
    onRequest(ctx) {
      ctx.state.a = ctx.request.id;
      if (ctx.request.method === "FAIL") throw new Error("no");
    },
    onLog: (ctx) => expect(ctx.state.a).toBe("id-1"),
  });
  channel.waiting = [
    call(0, 0, 0, 1, base),
    call(0, 0, 0, 2, base),
    call(0, 0, 0, 3, ["/path", "FAIL", "route", "id-1"]),
  ];
  channel.wake();
  expect(channel.replies.map(outcome)).toEqual([0, 0, 2]);
  expect(channel.replies.map(context)).toEqual([1, 2, 0]);
  expect(one.attached).toBe(2);
  channel.waiting = [
    call(0, 3, 1, 0xffff_ffff, [...base, "{}"]),
    call(0, 255, 1, 0, []),
    call(0, 255, 2, 0, []),
    call(0, 255, 2, 0, []),
  ];
  channel.wake();
  expect(channel.replies).toHaveLength(3);
  expect(one.attached).toBe(0);
});

it("asynchronous hooks see their own call after the buffer was used again, and leave together", async () => {
  const release: (() => void)[] = [];
  const { channel, base, lines } = thread({
    async onRequest(ctx) {
      await new Promise<void>((done) => release.push(done));
      if (ctx.request.path === "/two") throw new Error(`late ${ctx.request.id}`);
      ctx.request.headers.set("x-path", ctx.request.path);
    },
  });
  channel.waiting = [call(0, 0, 0, 1, ["/one", ...base.slice(1)])];
  channel.wake();
  channel.waiting = [call(0, 0, 0, 2, ["/two", ...base.slice(1)])];
  channel.wake();
  expect(channel.replies).toHaveLength(0);
  for (const done of release) done();
  await new Promise((done) => setTimeout(done, 5));
  expect(channel.replies.map(outcome)).toEqual([0, 2]);
  expect(channel.replies[0]?.toString("latin1")).toContain("x-path/one");
  expect(lines[0]?.message).toContain("late id-1");
});

it("a log that throws, and values thrown that are no errors, harm nobody", () => {
  const plan = planHook(
    "test",
    {
      reads: {},
      onRequest: () => {
        throw null;
      },
    },
    () => undefined,
  );
  new HookThread(
    FakeChannel as never,
    [plan],
    () => {
      throw new Error("log");
    },
    () => undefined,
  );
  FakeChannel.last.waiting = [call(0, 0, 0, 1, ["/path", "GET", "route", "id"])];
  FakeChannel.last.wake();
  expect(FakeChannel.last.replies.map(outcome)).toEqual([2]);
});
