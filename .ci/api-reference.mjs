// docs/api.md from the declarations and their TSDoc: API Extractor reads them, the page is put together here.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Extractor, ExtractorConfig, ExtractorLogLevel } from "@microsoft/api-extractor";
import { ApiModel, ReleaseTag } from "@microsoft/api-extractor-model";
import { root } from "./platforms.mjs";

const PACKAGE = "@titan-gateway/titan";
const ENTRIES = [
  { name: PACKAGE, file: "index.d.ts" },
  { name: `${PACKAGE}/testing`, file: "testing/index.d.ts" },
];
/** Headings, in their order, with the kinds that stand below them. */
const SECTIONS = [
  ["Functions", ["Function"]],
  ["Classes", ["Class"]],
  ["Interfaces", ["Interface"]],
  ["Types", ["TypeAlias", "Enum"]],
  ["Values", ["Variable"]],
];

/** The page, by its path; `missing` are items without a description. */
export function apiReference() {
  mkdirSync(join(root, ".cache"), { recursive: true });
  const folder = mkdtempSync(join(root, ".cache", "api-"));
  try {
    const out = join(folder, "types");
    execFileSync(
      process.execPath,
      [
        join(root, "node_modules/typescript/lib/tsc.js"),
        ...["-p", root, "--emitDeclarationOnly", "--declarationMap", "false", "--outDir", out],
      ],
      { stdio: ["ignore", "inherit", "inherit"] },
    );
    const missing = [];
    const parts = ENTRIES.map((entry) => entryPoint(entry, extract(entry, out, folder), missing));
    const head = `# API

What a program can import, made from the TSDoc of the sources by \`npm run generate\`: change it there. Guides: [library](library.md), [hooks](hooks.md);
what a configuration may hold: [configuration](configuration.md).
`;
    return { files: { "docs/api.md": `${[head, ...parts].join("\n").trimEnd()}\n` }, missing };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** API Extractor's model of one entry point. */
function extract({ name, file }, out, folder) {
  const manifest = join(folder, "package.json");
  writeFileSync(manifest, JSON.stringify({ name: PACKAGE, version: "0.0.0", types: `types/${file}` }));
  writeFileSync(join(folder, "tsconfig.json"), readFileSync(join(root, "tsconfig.json"), "utf8"));
  const model = join(folder, "model.api.json");
  const config = ExtractorConfig.prepare({
    packageJsonFullPath: manifest,
    configObjectFullPath: undefined,
    configObject: {
      projectFolder: folder,
      mainEntryPointFilePath: join(out, file),
      compiler: {
        overrideTsconfig: {
          compilerOptions: {
            target: "es2023",
            lib: ["es2023", "esnext.disposable"],
            module: "nodenext",
            strict: true,
            types: ["node"],
            skipLibCheck: true,
          },
          include: [join(out, file)],
        },
      },
      apiReport: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      docModel: { enabled: true, apiJsonFilePath: model },
    },
  });
  const problems = [];
  const done = Extractor.invoke(config, {
    localBuild: true,
    messageCallback: (message) => {
      message.handled = true;
      if (message.logLevel === ExtractorLogLevel.Error || message.category === "Compiler") problems.push(message.text);
    },
  });
  if (!done.succeeded || problems.length > 0)
    throw new Error(`the declarations of ${name} can't be read:\n${problems.join("\n")}`);
  return new ApiModel().loadPackage(model).entryPoints[0];
}

function entryPoint({ name }, point, missing) {
  const lines = [`## \`${name}\`\n`];
  for (const [heading, kinds] of SECTIONS) {
    const items = point.members.filter((item) => kinds.includes(item.kind) && item.releaseTag !== ReleaseTag.Internal);
    if (items.length === 0) continue;
    lines.push(`### ${heading}\n`);
    const overloads = Map.groupBy ? Map.groupBy(items, (item) => item.displayName) : grouped(items);
    for (const [, list] of [...overloads].sort(([a], [b]) => (a < b ? -1 : 1))) lines.push(item(list, missing));
  }
  return lines.join("\n");
}

function grouped(items) {
  const groups = new Map();
  for (const item of items) groups.set(item.displayName, [...(groups.get(item.displayName) ?? []), item]);
  return groups;
}

/** One export, with its overloads. */
function item(list, missing) {
  const [first] = list;
  const lines = [`#### ${first.displayName}\n`];
  const shape = list.map((one) => signature(one)).join("\n");
  lines.push(`\`\`\`ts\n${shape}\n\`\`\`\n`);
  lines.push(...description(first, missing, first.displayName));
  const members = (first.members ?? []).filter((member) => member.releaseTag !== ReleaseTag.Internal);
  for (const member of members) {
    const path = `${first.displayName}.${member.displayName}`;
    const text = description(member, missing, path).join("\n").trim().replaceAll("\n", "\n  ");
    lines.push(`- \`${oneLine(signature(member))}\`${text ? `: ${text}` : ""}`);
  }
  if (members.length > 0) lines.push("");
  return lines.join("\n");
}

function signature(item) {
  const text = item.excerpt.text
    .replace(/^export declare /, "")
    .trim()
    .replace(/;$/, "");
  // Type parameters stand one below the other where there are many.
  return text.length > 400 ? text.replaceAll(/, (?=(const )?[A-Z] (extends|=) )/g, ",\n  ") : text;
}

const oneLine = (text) => text.replaceAll(/\s+/g, " ").replaceAll("`", "'");

/** Summary, remarks, parameters, what is returned and thrown, examples. */
function description(item, missing, path) {
  const doc = item.tsdocComment;
  const lines = [];
  const summary = doc ? text(doc.summarySection) : "";
  if (summary) lines.push(`${summary}\n`);
  else if (!obvious(item)) missing.push(path);
  if (!doc) return lines;
  if (doc.remarksBlock) lines.push(`${text(doc.remarksBlock.content)}\n`);
  const parameters = doc.params.blocks.map((block) => `- \`${block.parameterName}\`: ${text(block.content)}`);
  if (parameters.length > 0) lines.push(`${parameters.join("\n")}\n`);
  if (doc.returnsBlock) lines.push(`Returns ${text(doc.returnsBlock.content)}.\n`.replace(/\.\.\n$/, ".\n"));
  for (const block of doc.customBlocks) {
    const tag = block.blockTag.tagNameWithUpperCase;
    if (tag === "@THROWS") lines.push(`Throws ${text(block.content)}.\n`.replace(/\.\.\n$/, ".\n"));
    if (tag === "@EXAMPLE") lines.push(`${text(block.content)}\n`);
  }
  return lines;
}

/** What a name and a type say in full. */
function obvious(item) {
  return item.kind === "Constructor" || item.kind === "CallSignature" || item.kind === "IndexSignature";
}

/** TSDoc's nodes as Markdown. */
function text(node) {
  return render(node)
    .replaceAll(/[ \t]+\n/g, "\n")
    .replaceAll(/\n{3,}/g, "\n\n")
    .trim();
}

function render(node) {
  switch (node.kind) {
    case "PlainText":
      return node.text;
    case "SoftBreak":
      return "\n";
    case "EscapedText":
      return node.decodedText;
    case "ErrorText":
      return node.text;
    case "CodeSpan":
      return `\`${node.code}\``;
    case "FencedCode":
      return `\n\`\`\`${node.language}\n${node.code.trimEnd()}\n\`\`\`\n`;
    case "LinkTag":
      if (node.urlDestination) return `[${node.linkText ?? node.urlDestination}](${node.urlDestination})`;
      return `\`${node.linkText ?? target(node.codeDestination)}\``;
    case "Paragraph":
      return `${children(node)}\n\n`;
    case "HtmlStartTag":
    case "HtmlEndTag":
      return node.emitAsHtml();
    default:
      return children(node);
  }
}

const children = (node) => node.getChildNodes().map(render).join("");
const target = (destination) =>
  (destination?.memberReferences ?? []).map((part) => part.memberIdentifier?.identifier ?? "").join(".");
