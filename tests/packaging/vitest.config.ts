import { defineConfig } from "vitest/config";

// Apart from the other tests: these make packages, install them and fill a root folder, which takes minutes.
export default defineConfig({
  test: {
    include: ["tests/packaging/**/*.test.ts"],
    globalSetup: ["tests/packaging/setup.ts"],
    pool: "forks",
    // One after the other: the steps are heavy, and all want the same processors.
    fileParallelism: false,
    testTimeout: 240_000,
    hookTimeout: 400_000,
  },
});
