/** One module of a configuration: TypeScript and `import` → text that {@link Program} can run, and forget, on every Node. */
import { extname } from "node:path";

/** What became of a module. Plain data: it is handed to the threads that run hooks. */
export interface Transformed {
  /** CommonJS around `$titan` (see `program.ts`), with its source map. */
  code: string;
  /** What it imports statically, in its order. */
  imports: string[];
}

/** The transformer leaves this module to Babel: decorators, namespaces, CommonJS in TypeScript, or a syntax error. */
export class NotTransformed extends Error {}

/** A character that no specifier has: tells imports from calls of `require` that the user wrote. */
const MARK = "\u0001";
const IMPORT = new RegExp(`\\brequire\\((['"])${MARK}(.*?)\\1\\)`, "g");
/** Says that the transformer took a `namespace` for a type. */
const NAMESPACE = /(^|[;{}\s])(?<!\bdeclare\s+)(namespace|module)\s+[\w$.]+\s*\{/;
/** What the module runs in. Names are as long as what they stand for, so that columns stay: `$titan` is `import`, `$titan_meta` is `import.meta`. */
const OPEN = "module.exports={run:async function($titan,$titan_meta,module,exports,require,__filename,__dirname){";
const CLOSE = "\n},native:(name,options)=>import(name,options)};";

/** Whether a file's name says that it is TypeScript. */
export const isTypeScript = (file: string): boolean => [".ts", ".mts", ".cts"].includes(extname(file));

/**
 * Transforms a module; `undefined` for CommonJS, which Node reads by itself.
 *
 * Sucrase is ready and done in less time than Node's own type stripping takes to compile its WebAssembly, not to speak of Babel, and works
 * alike on every Node. It keeps lines, knows enums and parameter properties, and its exports are live.
 *
 * @throws NotTransformed where it can't be done
 */
export async function transform(file: string, source: string): Promise<Transformed | undefined> {
  const [lexer, sucrase] = await Promise.all([import("es-module-lexer/js"), import("sucrase")]);
  const typescript = isTypeScript(file);
  try {
    const [imports, exports, , module] = lexer.parse(source, file);
    if (!module && exports.length === 0) {
      // CommonJS: Node's own business, unless it has types to take out.
      if (typescript && /\b(module|exports|require)\b/.test(source)) throw new NotTransformed("CommonJS in TypeScript");
      if (!typescript && extname(file) !== ".mjs") return undefined;
    }
    if (typescript && NAMESPACE.test(source)) throw new NotTransformed("a namespace");
    let marked = "";
    let at = 0;
    const specifiers: string[] = [];
    const put = (start: number, end: number, text: string) => {
      marked += source.slice(at, start) + text;
      at = end;
    };
    for (const found of imports) {
      if (found.type === "import-meta") put(found.start, found.end, "$titan_meta");
      else if (found.type === "dynamic") {
        if (!found.probablyTypeOnly) put(found.importStart, found.importStart + "import".length, "$titan");
      } else if (!found.typeOnly) put(found.start, found.start, MARK);
    }
    marked += source.slice(at).replace(/^#!/, "//");
    const made = sucrase.transform(marked, {
      transforms: typescript ? ["typescript", "imports"] : ["imports"],
      disableESTransforms: true,
      enableLegacyTypeScriptModuleInterop: true,
      filePath: file,
      sourceMapOptions: { compiledFilename: file },
    });
    const body = made.code.replace(IMPORT, (_, quote: string, specifier: string) => {
      specifiers.push(specifier);
      return `$titan.get(${quote}${specifier}${quote})`;
    });
    const map = { ...made.sourceMap, sources: [file], mappings: moved(made.sourceMap?.mappings ?? "", OPEN.length) };
    const inline = Buffer.from(JSON.stringify(map)).toString("base64");
    return {
      code: `${OPEN}${body}${CLOSE}\n//# sourceMappingURL=data:application/json;base64,${inline}\n`,
      imports: [...new Set(specifiers)],
    };
  } catch (cause) {
    throw cause instanceof NotTransformed ? cause : new NotTransformed("the syntax", { cause });
  }
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** Source map's mappings with `columns` more before the first line: its first number, in base 64 with the sign last, grows. */
function moved(mappings: string, columns: number): string {
  let value = 0;
  let read = 0;
  for (let shift = 0; ; shift += 5) {
    const digit = DIGITS.indexOf(mappings[read++] ?? "A");
    value |= (digit & 31) << shift;
    if (digit < 32) break;
  }
  let rest = ((value >> 1) + columns) << 1;
  let text = "";
  do {
    const digit = rest & 31;
    rest >>= 5;
    text += DIGITS[rest > 0 ? digit | 32 : digit];
  } while (rest > 0);
  return text + mappings.slice(read);
}
