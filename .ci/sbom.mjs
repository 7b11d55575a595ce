// CycloneDX 1.6 software bill of materials of what is shipped: bundled npm packages, linked Rust crates, the Node.js binary.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { manifest, root } from "./platforms.mjs";

/** npm packages whose files esbuild put into a bundle, by its metafile. */
export function bundledPackages(metafile) {
  const found = new Map();
  for (const input of Object.keys(metafile.inputs)) {
    const match = /^(.*node_modules\/((?:@[^/]+\/)?[^/]+))\//.exec(input);
    if (!match || found.has(match[1])) continue;
    const folder = join(root, match[1]);
    const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const text = ["LICENSE", "LICENSE.md", "LICENSE.txt", "license", "LICENCE"]
      .map((file) => join(folder, file))
      .find(existsSync);
    found.set(match[1], { name, version, license, text: text && readFileSync(text, "utf8") });
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Crates that are linked into the addon for `triple`: what cargo resolves, without build and development dependencies. */
export function linkedCrates(triple) {
  const metadata = (...more) =>
    execFileSync("cargo", ["metadata", "--locked", "--format-version=1", `--filter-platform=${triple}`, ...more], {
      cwd: root,
      encoding: "utf8",
      maxBuffer: 1 << 28,
      stdio: ["ignore", "pipe", more.length > 0 ? "ignore" : "inherit"],
    });
  let told;
  try {
    told = metadata("--offline");
  } catch {
    // Not every crate that the lock file names has been downloaded yet.
    told = metadata();
  }
  const { packages, resolve } = JSON.parse(told);
  const byId = new Map(packages.map((item) => [item.id, item]));
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]));
  const start = packages.find((item) => item.name === "titan-napi").id;
  const seen = new Set();
  const queue = [start];
  for (let id = queue.pop(); id; id = queue.pop()) {
    if (seen.has(id)) continue;
    seen.add(id);
    for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps)
      if (kinds.some(({ kind }) => kind === null)) queue.push(pkg);
  }
  return [...seen]
    .map((id) => byId.get(id))
    .filter(({ source }) => source)
    .map(({ name, version, license }) => ({ name, version, license }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.version < b.version ? -1 : 1));
}

/** The document. */
export function sbom({ npm, crates, node, triple }) {
  const licenses = (license) => (license ? [{ expression: license.replaceAll("/", " OR ") }] : undefined);
  const component = (purl, { name, version, license }, type = "library") => ({
    type,
    "bom-ref": purl,
    name,
    version,
    ...(license && { licenses: licenses(license) }),
    purl,
  });
  const self = `pkg:npm/${manifest.name.replace("@", "%40")}@${manifest.version}`;
  const components = [
    ...npm.map((item) => component(`pkg:npm/${item.name.replace("@", "%40")}@${item.version}`, item)),
    ...crates.map((item) => component(`pkg:cargo/${item.name}@${item.version}`, item)),
    ...(node
      ? [
          {
            ...component(
              `pkg:generic/node@${node.version}`,
              { name: "node", version: node.version, license: "MIT" },
              "platform",
            ),
            hashes: [{ alg: "SHA-256", content: node.sha256 }],
          },
        ]
      : []),
  ];
  const epoch = Number(process.env.SOURCE_DATE_EPOCH ?? Math.floor(Date.now() / 1000));
  const digest = createHash("sha256").update(JSON.stringify(components)).digest("hex");
  // Of the content, so that the same inputs give the same document.
  const uuid = `${digest.slice(0, 8)}-${digest.slice(8, 12)}-5${digest.slice(13, 16)}-8${digest.slice(17, 20)}-${digest.slice(20, 32)}`;
  return {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: `urn:uuid:${uuid}`,
    version: 1,
    metadata: {
      timestamp: new Date(epoch * 1000).toISOString(),
      component: {
        ...component(
          self,
          { name: manifest.name, version: manifest.version, license: manifest.license },
          "application",
        ),
        properties: [{ name: "titan:target", value: triple }],
      },
    },
    components,
    dependencies: [{ ref: self, dependsOn: components.map((item) => item["bom-ref"]) }],
  };
}
