import { collectDefaultMetrics, type Metric, Registry } from "prom-client";
import { version } from "../version.ts";
import { FAMILIES } from "./families.ts";
import type { HookThreads, Scrape } from "./scrape.ts";

/**
 * The metrics page. prom-client renders it together with the process's own metrics; the data plane's figures are read once a page, so
 * that all families of a page are of one moment.
 */
export class MetricsPage {
  readonly #registry = new Registry();
  readonly #read: () => string;
  readonly #threads: () => HookThreads;
  #scrape: Scrape | undefined;

  /** `read` gives the data plane's snapshot as JSON, `threads` what is known here of the threads that run hooks. */
  constructor(read: () => string, threads: () => HookThreads) {
    this.#read = read;
    this.#threads = threads;
    for (const family of FAMILIES) {
      const { name, help, type } = family;
      this.#register({
        name,
        help,
        type,
        get: () => ({ name, help, type, values: this.#scrape ? [...family.samples(this.#scrape)] : [] }),
      });
    }
    const values = [{ labels: { version, node: process.version }, value: 1 }];
    const info = { name: "titan_info", help: "Version of Titan and of Node.js.", type: "gauge" };
    this.#register({ ...info, get: () => ({ ...info, values }) });
    collectDefaultMetrics({ register: this.#registry });
  }

  /** The page of this moment. */
  async render(): Promise<{ contentType: string; body: string }> {
    this.#scrape = { ...JSON.parse(this.#read()), ...this.#threads() } as Scrape;
    return { contentType: this.#registry.contentType, body: await this.#registry.metrics() };
  }

  /** prom-client asks a metric for nothing but these; its types know only its own classes. */
  #register(metric: { name: string; help: string; type: string; get(): object }): void {
    this.#registry.registerMetric(metric as unknown as Metric);
  }
}
