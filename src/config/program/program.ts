/**
 * Runs the modules of a configuration: its own files afresh at each load, packages through Node's loader.
 *
 * Node never forgets a module that it has imported: a reload would neither see a changed helper nor give memory back. So the user's files
 * are evaluated here, in the order and with the live bindings that modules have, and go when nothing refers to them any more.
 */
import { readFileSync } from "node:fs";
import Module, { createRequire } from "node:module";
import { dirname } from "node:path";
import { pathToFileURL } from "node:url";
import { resolveImport, type Target } from "./resolve.ts";
import { NotTransformed, type Transformed, transform } from "./transform.ts";

/** The text of a program by file, as one thread hands it to another; `null` is CommonJS, which Node reads by itself. */
export type ProgramCode = Map<string, Transformed | null>;

/** An import that leads nowhere. */
export class UnresolvedImport extends Error {
  readonly specifier: string;
  readonly from: string;
  constructor(specifier: string, from: string) {
    super(`Cannot find ${JSON.stringify(specifier)}, imported by ${from}`);
    this.specifier = specifier;
    this.from = from;
  }
}

type Namespace = Record<string, unknown>;
/** What Node's loader has made of a module's text. */
interface Wrapped {
  run(
    titan: Importer,
    meta: object,
    module: { exports: unknown },
    exports: object,
    require: NodeJS.Require,
    file: string,
    folder: string,
  ): Promise<void>;
  native(name: string, options?: ImportCallOptions): Promise<Namespace>;
}
type Importer = ((specifier: string, options?: ImportCallOptions) => Promise<Namespace>) & {
  get(specifier: string): Namespace;
};

interface Node {
  file: string;
  text: Transformed | null;
  targets: Map<string, Target>;
  /** What it has exported so far: others may hold it while it still runs. */
  module: { exports: object };
  /** What `module.exports` was at first, and is in a module to the end. */
  exports: object;
  wrapped: Wrapped | undefined;
  natives: Map<string, Namespace>;
  evaluated: Promise<void> | undefined;
}

/** Compiled modules of this thread, kept: Node forgets a source map with its module. Only where stacks are mapped at all. */
const mapped: Module[] = [];

/** The modules of one load. */
export class Program {
  readonly #nodes = new Map<string, Node>();
  readonly #json = new Map<string, unknown>();
  readonly #code: ProgramCode;
  readonly #alias: Readonly<Record<string, string>>;

  /** `code` is what another thread has transformed; what is missing is added to it. `alias` leads names to files. */
  constructor(code: ProgramCode, alias: Readonly<Record<string, string>>) {
    this.#code = code;
    this.#alias = alias;
  }

  /** Every file of the user's that took part. */
  get files(): string[] {
    return [...this.#nodes.keys(), ...this.#json.keys()];
  }

  /**
   * Reads, transforms and compiles `file` and all that it imports, and runs nothing yet: whoever catches an error can still do it in
   * another way.
   *
   * @throws NotTransformed, {@link UnresolvedImport}
   */
  async read(file: string): Promise<void> {
    if (this.#nodes.has(file)) return;
    let text = this.#code.get(file);
    if (text === undefined) {
      text = (await transform(file, readFileSync(file, "utf8"))) ?? null;
      this.#code.set(file, text);
    }
    const exports = {};
    const node: Node = {
      file,
      text,
      targets: new Map(),
      module: { exports },
      exports,
      wrapped: undefined,
      natives: new Map(),
      evaluated: undefined,
    };
    this.#nodes.set(file, node);
    if (text === null) return;
    node.wrapped = compile(file, text.code);
    for (const specifier of text.imports) {
      const target = this.#resolve(specifier, file);
      node.targets.set(specifier, target);
      if (target.kind === "module") await this.read(target.file);
    }
  }

  /** Runs what {@link read} has read, and gives its exports. */
  async run(file: string): Promise<Namespace> {
    const node = this.#nodes.get(file) as Node;
    await this.#evaluate(node, new Set());
    return this.#exports(node);
  }

  #resolve(specifier: string, from: string): Target {
    const alias = this.#alias[specifier];
    if (alias !== undefined)
      return /\.ts$/.test(alias)
        ? { kind: "module", file: alias }
        : { kind: "native", name: pathToFileURL(alias).href };
    const target = resolveImport(specifier, from);
    if (target === undefined) throw new UnresolvedImport(specifier, from);
    return target;
  }

  /** `above` are the modules that wait for this one: one of them is a cycle, and is not waited for. */
  #evaluate(node: Node, above: ReadonlySet<Node>): Promise<void> {
    node.evaluated ??= this.#start(node, new Set([...above, node]));
    return node.evaluated;
  }

  async #start(node: Node, above: ReadonlySet<Node>): Promise<void> {
    const { file, wrapped } = node;
    if (wrapped === undefined) {
      const require = createRequire(file);
      // Once in this load, afresh in the next one.
      const before = new Set(Object.keys(require.cache));
      node.module.exports = require(file);
      for (const id of Object.keys(require.cache)) if (!before.has(id)) delete require.cache[id];
      return;
    }
    for (const [specifier, target] of node.targets) {
      if (target.kind === "native") node.natives.set(specifier, await wrapped.native(target.name));
      else if (target.kind === "json") this.#readJson(target.file);
      else {
        const imported = this.#nodes.get(target.file) as Node;
        if (!above.has(imported)) await this.#evaluate(imported, above);
      }
    }
    const titan = Object.assign(
      (specifier: string, options?: ImportCallOptions) => this.#import(node, specifier, options),
      {
        get: (specifier: string) => this.#get(node, specifier),
      },
    );
    const { module } = node;
    const require = createRequire(file);
    await wrapped.run(titan, metaOf(file, require), module, module.exports, require, file, dirname(file));
  }

  #get(node: Node, specifier: string): Namespace {
    const target = node.targets.get(specifier) as Target;
    if (target.kind === "native") return node.natives.get(specifier) as Namespace;
    if (target.kind === "json") return { default: this.#readJson(target.file) };
    return this.#exports(this.#nodes.get(target.file) as Node);
  }

  /** `import()` of the user's. */
  async #import(node: Node, specifier: string, options: ImportCallOptions | undefined): Promise<Namespace> {
    const target = this.#resolve(String(specifier), node.file);
    if (target.kind === "native") return (node.wrapped as Wrapped).native(target.name, options);
    if (target.kind === "json") return { default: this.#readJson(target.file) };
    await this.read(target.file);
    return this.run(target.file);
  }

  #exports(node: Node): Namespace {
    const { exports } = node.module as { exports: Namespace };
    if (exports === node.exports) return exports;
    // As Node shows CommonJS to modules.
    return Object.assign(Object.create(null), exports, { default: exports });
  }

  #readJson(file: string): unknown {
    if (!this.#json.has(file)) this.#json.set(file, JSON.parse(readFileSync(file, "utf8")));
    return this.#json.get(file);
  }
}

function metaOf(file: string, require: NodeJS.Require): object {
  const resolve = (specifier: string) => {
    const path = require.resolve(specifier);
    return path.startsWith("/") || /^[A-Za-z]:/.test(path) ? pathToFileURL(path).href : path;
  };
  return { url: pathToFileURL(file).href, filename: file, dirname: dirname(file), resolve };
}

/** Node's own way for CommonJS: `import()` is relative to the file, the inspector shows it, and its source map is known. */
function compile(file: string, code: string): Wrapped {
  const module = new Module(file) as Module & { _compile(code: string, file: string): void };
  module.filename = file;
  try {
    module._compile(code, file);
  } catch (cause) {
    // Nothing of the user's has run yet: it can only be the syntax.
    throw new NotTransformed("the syntax", { cause });
  }
  if ((process as { sourceMapsEnabled?: boolean }).sourceMapsEnabled) mapped.push(module);
  return module.exports as Wrapped;
}
