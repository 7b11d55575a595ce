import { describe, expect, it } from "vitest";
import { explainFailure, PREBUILT, packageSuffix, thisMachine } from "./native-failure.ts";

const linux = { platform: "linux", arch: "x64", libc: "gnu" } as const;
const notFound = new Error("Cannot find native binding. npm has a bug.", {
  cause: new Error("Cannot find module '@titan-gateway/titan-linux-x64-gnu'\nRequire stack"),
});
const system = (message: string) =>
  new Error("Cannot find native binding.", {
    cause: new Error("Cannot find module './titan.node'", { cause: new Error(message) }),
  });

describe("explainFailure", () => {
  it("names the package that is missing, why, and the command", () => {
    const text = explainFailure(notFound, linux, undefined);
    expect(text).toContain("linux-x64-gnu did not load");
    expect(text).toContain("lock file");
    expect(text).toContain("--omit=optional");
    expect(text).toContain("npm install @titan-gateway/titan-linux-x64-gnu");
  });

  it.each([
    ["/lib/libc.so.6: version `GLIBC_2.38' not found (required by x)", linux, "older than GLIBC 2.38"],
    [
      "libc.so.6: cannot open shared object file",
      { platform: "linux", arch: "x64", libc: "musl" } as const,
      "musl package",
    ],
    ["x.node: invalid ELF header", linux, "another platform"],
    ["x.node: failed to map segment from shared object", linux, "noexec"],
    ["something new", linux, "something new. Reinstall"],
  ])("gives the cure for %j", (message, machine, cure) =>
    expect(explainFailure(system(message), machine, undefined)).toContain(cure),
  );

  it("speaks of platforms without a prebuilt addon, and of an unknown libc", () => {
    expect(explainFailure(notFound, { platform: "freebsd", arch: "x64" }, undefined)).toContain("no prebuilt addon");
    expect(explainFailure(notFound, { platform: "linux", arch: "riscv64", libc: "gnu" }, undefined)).toContain(
      "no prebuilt addon",
    );
    expect(explainFailure(notFound, { platform: "linux", arch: "x64" }, undefined)).toContain("neither glibc nor musl");
  });

  it("speaks of the override where there is one", () => {
    expect(explainFailure(notFound, linux, "/x.node", () => false)).toContain(
      "TITAN_NATIVE_PATH names /x.node, which does not exist",
    );
    expect(explainFailure(system("/x.node: invalid ELF header"), linux, "/x.node", () => true)).toMatch(
      /from TITAN_NATIVE_PATH \(\/x.node\): .*invalid ELF header/,
    );
  });
});

it("knows this machine", () => {
  expect(PREBUILT as readonly string[]).toContain(packageSuffix(thisMachine()));
});
