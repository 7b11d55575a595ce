import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { ROOT } from "./tools.ts";

// There is no container engine where these run: what a linter would say, and what the guide asks for. The last stage's program is run
// as user 1000 in a read-only root by systemd.test.ts.
const text = readFileSync(join(ROOT, "Dockerfile.production"), "utf8");
const lines = text
  .replaceAll(/\\\n/g, " ")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"));
const last = lines.slice(lines.findLastIndex((line) => line.startsWith("FROM")));

describe("Dockerfile.production", () => {
  it("names every image with a tag that is not latest", () => {
    const images = lines.filter((line) => line.startsWith("FROM")).map((line) => line.split(/\s+/)[1]);
    expect(images).toHaveLength(3);
    for (const image of images) expect(image).toMatch(/:(?!latest)./);
  });

  it("installs packages without extras, in one layer with the lists, which it removes", () => {
    const installs = lines.filter((line) => line.includes("apt-get install"));
    expect(installs).toHaveLength(2);
    for (const line of installs) {
      expect(line).toContain("apt-get update");
      expect(line).toContain("--no-install-recommends");
      expect(line).toContain("rm -rf /var/lib/apt/lists/*");
    }
  });

  it("uses COPY, absolute work folders and no sudo", () => {
    expect(lines.filter((line) => /^ADD |sudo |^MAINTAINER/.test(line))).toEqual([]);
    for (const line of lines.filter((item) => item.startsWith("WORKDIR"))) expect(line).toMatch(/^WORKDIR \//);
  });

  it("does not run as root, checks its health, and gets signals itself", () => {
    expect(last).toContain("USER 1000:1000");
    expect(last.findIndex((line) => line.startsWith("USER"))).toBeGreaterThan(
      last.findIndex((line) => line.startsWith("RUN")),
    );
    expect(last.find((line) => line.startsWith("HEALTHCHECK"))).toMatch(/CMD \["titan", "health"\]/);
    expect(last).toContain('ENTRYPOINT ["/usr/local/bin/titan"]');
    expect(last).toContain('CMD ["serve", "--config", "/etc/titan/config.json"]');
    expect(last).toContain("EXPOSE 8080 8443");
  });

  it("copies only files that are there", () => {
    for (const line of lines.filter((item) => /^COPY (?!--from)/.test(item))) {
      for (const file of line.split(/\s+/).slice(1, -1))
        if (file !== ".") expect(() => readFileSync(join(ROOT, file))).not.toThrow();
    }
  });
});

it("the compose file is the guide's, and tighter", () => {
  const { titan } = parse(readFileSync(join(ROOT, "docker-compose.yml"), "utf8")).services;
  expect(titan).toMatchObject({
    image: "titan:latest",
    restart: "unless-stopped",
    ports: ["8080:8080", "8443:8443"],
    volumes: ["./config/config.json:/etc/titan/config.json:ro", "./certs:/etc/titan/tls:ro"],
    user: "1000:1000",
    cap_add: ["NET_BIND_SERVICE"],
    cap_drop: ["ALL"],
    read_only: true,
    ulimits: { nofile: { soft: 1048576, hard: 1048576 } },
    healthcheck: {
      test: ["CMD", "curl", "-f", "http://localhost:8080/_health"],
      interval: "30s",
      timeout: "5s",
      retries: 3,
      start_period: "10s",
    },
  });
});
