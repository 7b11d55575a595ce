import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "tests/**/*.test.ts", "examples/**/*.test.ts"],
    // Slow and heavy: a stage of its own.
    exclude: ["tests/packaging/**"],
    // The addon owns threads: a process for each file, so that one file's gateway cannot outlive it into the next.
    globalSetup: "tests/helpers/build.ts",
    pool: "forks",
    // The examples' own tests find the package by its name, as everybody's do: it is loaded as it is.
    server: { deps: { external: [/\/dist\//] } },
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
});
