// The chaos suite: what breaks around a gateway, on purpose, with nginx and HAProxy beside Titan in the same run.
//
//   npm run test:chaos                       every case
//   npm run test:chaos -- --only reloads     some of them, by name of export
//   npm run test:chaos -- --kinds titan --rate 500 --write
//
// `--write` puts the table into docs/reliability.md. Titan is taken as it is built (`dist/` and the addon).
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import * as backends from "./cases/backends.mjs";
import * as processes from "./cases/process.mjs";
import { refusals, reloads, streams } from "./cases/reload.mjs";
import { clean } from "./world.mjs";

const ROOT = path.resolve(import.meta.dirname, "../..");
const { killed, stopped, allDown, halfFailing } = backends;
const { drained, handovers, descriptors, flapping, stuck } = processes;
const CASES = {
  reloads,
  streams,
  refusals,
  drained,
  handovers,
  killed,
  stopped,
  allDown,
  halfFailing,
  descriptors,
  flapping,
  stuck,
};

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    kinds: { type: "string" },
    rate: { type: "string", default: "1000" },
    write: { type: "boolean" },
  },
});
const only = values.only?.split(",") ?? Object.keys(CASES);
const unknown = only.filter((name) => !(name in CASES));
if (unknown.length > 0) fail(`There is no case ${unknown.join(", ")}; there are ${Object.keys(CASES).join(", ")}.`);
if (!existsSync(path.join(ROOT, "dist/cli/main.js")))
  fail("Titan is not built: run `npm run build:addon` and `npm run build`.");
const present = { titan: true, nginx: installed("nginx", "-v"), haproxy: installed("haproxy", "-v") };
const kinds = (values.kinds?.split(",") ?? Object.keys(present)).filter((kind) => {
  if (!present[kind]) console.log(`${kind} is not installed: its column stays empty.`);
  return present[kind];
});

let bad = 0;
const rows = [];
try {
  for (const name of only) {
    const test = CASES[name];
    const row = { name: test.name, wants: test.wants };
    for (const kind of kinds.filter((one) => test.kinds.includes(one))) {
      const began = performance.now();
      const outcome = await test
        .run(kind, { rate: Number(values.rate) })
        .catch((error) => ({ figure: `broke: ${error.message.trim().split("\n")[0]}`, good: false }));
      row[kind] = outcome.figure;
      if (kind === "titan" && !outcome.good) bad++;
      const mark = outcome.good ? "ok  " : "FAIL";
      console.log(
        `${mark} ${kind.padEnd(8)} ${test.name}: ${outcome.figure}  [${((performance.now() - began) / 1000).toFixed(0)} s]`,
      );
    }
    rows.push(row);
  }
} finally {
  await clean();
}

const columns = ["titan", "nginx", "haproxy"];
const line = (cells) => `| ${cells.join(" | ")} |`;
const table = [
  line(["case", "wanted", "Titan", `nginx ${present.nginx || ""}`, `HAProxy ${present.haproxy || ""}`]),
  line(["---", "---", "---", "---", "---"]),
  ...rows.map((row) => line([row.name, row.wants, ...columns.map((kind) => row[kind] ?? "–")])),
].join("\n");
const cpus = os.cpus();
const conditions = `${new Date().toISOString().slice(0, 10)}, ${cpus.length} × ${cpus[0]?.model.trim()}, Linux ${os.release()}, Node ${process.version}, ${values.rate} requests/s offered; load average ${os.loadavg()[0].toFixed(1)} at the end.`;
console.log(`\n${conditions}\n\n${table}`);
if (values.write) write();
process.exit(bad > 0 ? 1 : 0);

function write() {
  const file = path.join(ROOT, "docs/reliability.md");
  const [begin, end] = ["<!-- chaos: begin -->", "<!-- chaos: end -->"];
  const text = readFileSync(file, "utf8");
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) fail(`${file} has no place for the table (${begin} … ${end}).`);
  writeFileSync(file, `${text.slice(0, from + begin.length)}\n${conditions}\n\n${table}\n${text.slice(to)}`);
}

/** The version of a program, or `undefined` where it is not installed. */
function installed(command, flag) {
  const done = spawnSync(command, [flag], { encoding: "utf8" });
  return done.error ? undefined : (/(\d+\.\d+(\.\d+)?)/.exec(done.stdout + done.stderr)?.[1] ?? "");
}

function fail(sentence) {
  console.error(`chaos: ${sentence}`);
  process.exit(2);
}
