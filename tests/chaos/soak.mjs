// Memory over time under load, with a reload every ten seconds: whatever a request or a configuration leaves behind adds up.
//
//   npm run test:soak -- --minutes 30 --rate 500
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { end, gateway } from "./gateways.mjs";
import { clean, load, origin, sleep } from "./world.mjs";

const { values } = parseArgs({
  options: { minutes: { type: "string", default: "30" }, rate: { type: "string", default: "500" } },
});
const minutes = Number(values.minutes);
const samples = [];
let failed = 0;
try {
  const backends = [await origin("a"), await origin("b")];
  const it = await gateway("titan", backends, { health: true });
  const client = load(it.port, { rate: Number(values.rate), connections: 32 });
  const began = performance.now();
  while (performance.now() - began < minutes * 60_000) {
    await sleep(10_000);
    await it.reload();
    const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${it.child.pid}/status`, "utf8"))?.[1]) / 1024;
    samples.push([(performance.now() - began) / 60_000, rss]);
    if (samples.length % 6 === 0) console.log(`${samples.at(-1)[0].toFixed(1)} min  ${rss.toFixed(1)} MiB`);
  }
  const result = await client.end();
  failed = result.failed;
  console.log(`${result.failed} of ${result.requests} failed; ${samples.length} reloads`);
  await end(it);
} finally {
  await clean();
}
// The first fifth is warming up: buffers, pools and JavaScript's heap find their size.
const settled = samples.slice(Math.floor(samples.length / 5));
const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
const [x, y] = [mean(settled.map(([time]) => time)), mean(settled.map(([, rss]) => rss))];
const slope =
  settled.reduce((sum, [t, r]) => sum + (t - x) * (r - y), 0) / settled.reduce((sum, [t]) => sum + (t - x) ** 2, 0);
const share = ((slope * 10) / y) * 100;
console.log(`mean ${y.toFixed(1)} MiB, slope ${share.toFixed(2)} % in 10 minutes (wanted: below 1 %)`);
process.exit(failed === 0 && share < 1 ? 0 : 1);
