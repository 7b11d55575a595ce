/** Text with a grammar: names, addresses, paths, patterns. */
import { isIP } from "node:net";
import { string } from "../kit/index.ts";

const NAME = /^[A-Za-z0-9_-]{1,64}$/;

/** Name of an upstream, route, listener or middleware. */
export const name = () =>
  string({
    code: "bad_name",
    noun: "a name",
    pattern: "^[A-Za-z0-9_-]{1,64}$",
    check: (text) =>
      NAME.test(text)
        ? undefined
        : `a name has 1 to 64 letters, digits, "_" or "-"; ${JSON.stringify(text)} does not fit`,
  });

/** Why a text is no address or CIDR. */
export function cidrProblem(text: string): string | undefined {
  const [address = "", prefix, ...rest] = text.split("/");
  const family = isIP(address);
  if (family === 0 || rest.length > 0)
    return `must be an address or a network such as "10.0.0.0/8" or "fd00::/8", not ${JSON.stringify(text)}`;
  if (prefix === undefined) return undefined;
  const bits = family === 4 ? 32 : 128;
  return /^\d{1,3}$/.test(prefix) && Number(prefix) <= bits
    ? undefined
    : `the prefix of ${JSON.stringify(text)} must be 0 to ${bits}`;
}

/** Address or network. */
export const cidr = () => string({ code: "bad_cidr", noun: "an address or network", check: cidrProblem });

/** Address to bind to. `localhost` is accepted and means 127.0.0.1. */
export const bindAddress = () =>
  string({
    code: "bad_address",
    noun: "an IP address",
    check: (text) =>
      isIP(text) !== 0 || text === "localhost"
        ? undefined
        : `must be an IP address ("0.0.0.0" for all), not ${JSON.stringify(text)}`,
  });

const LABEL = /^(?!-)[A-Za-z0-9_-]{1,63}(?<!-)$/;

/** Why a text is neither an address nor a DNS name. */
export function hostProblem(text: string): string | undefined {
  const bare = text.startsWith("[") && text.endsWith("]") ? text.slice(1, -1) : text;
  if (isIP(bare) !== 0) return undefined;
  if (text.includes("://")) return `must be a host name without scheme, port or path, not ${JSON.stringify(text)}`;
  const labels = text.replace(/\.$/, "").split(".");
  if (text.length > 253 || !labels.every((label) => LABEL.test(label)))
    return `must be an IP address or a DNS name, not ${JSON.stringify(text)}`;
  return undefined;
}

/** IP address or DNS name. */
export const host = () => string({ min: 1, code: "bad_host", noun: "a host", check: hostProblem });

/** Host that a route matches: exact or `*.example.com`. */
export const hostPattern = () =>
  string({
    min: 1,
    code: "bad_host",
    noun: "a host pattern",
    check: (text) => {
      if (text === "*") return undefined;
      const rest = text.startsWith("*.") ? text.slice(2) : text;
      if (rest.includes("*"))
        return `a wildcard host has one "*." in front, such as "*.example.com"; ${JSON.stringify(text)} does not fit`;
      if (rest.includes(":") && isIP(rest) === 0) return `a route's host has no port; ${JSON.stringify(text)} has one`;
      return hostProblem(rest);
    },
  });

/** Why a text is no route pattern. */
export function pathPatternProblem(text: string): string | undefined {
  if (!text.startsWith("/")) return `a path begins with "/", ${JSON.stringify(text)} does not`;
  if (/[?#]/.test(text)) return `a path holds no "?" or "#"; conditions on the query go into "query"`;
  if (/\s/.test(text)) return "a path holds no white space";
  const segments = text.slice(1).split("/");
  const seen = new Set<string>();
  for (const [i, segment] of segments.entries()) {
    const last = i === segments.length - 1;
    const star = segment.indexOf("*");
    if (star > 0) return `"*" stands for whole segments: ${JSON.stringify(segment)} mixes it with text`;
    if (star === 0 && !last) return `"*" is only possible as the last segment`;
    if (star === 0 && segment.length > 1 && !/^\*[A-Za-z_]\w*$/.test(segment))
      return `${JSON.stringify(segment)} is not "*" or "*name"`;
    const colon = segment.indexOf(":");
    if (colon === 0 && !/^:[A-Za-z_]\w*$/.test(segment))
      return `${JSON.stringify(segment)} is not ":name" (letters, digits, "_")`;
    const parameter = colon === 0 ? segment.slice(1) : star === 0 && segment.length > 1 ? segment.slice(1) : undefined;
    if (parameter !== undefined) {
      if (seen.has(parameter)) return `the parameter "${parameter}" is there twice`;
      seen.add(parameter);
    }
    if (segment === "." || segment === "..")
      return `"${segment}" never matches: paths are normalised before they are matched`;
    if (segment === "" && !last) return `"//" never matches: paths are normalised before they are matched`;
    if (/%(?![0-9A-Fa-f]{2})/.test(segment))
      return `${JSON.stringify(segment)} has a "%" that is not followed by two hex digits`;
  }
  return undefined;
}

/** A route's path: literal segments, `:param`, a last `*`. */
export const pathPattern = () =>
  string({ max: 2048, code: "bad_path", noun: "a path pattern", check: pathPatternProblem });

/** A plain path. */
export const path = () =>
  string({
    max: 2048,
    code: "bad_path",
    noun: "a path",
    check: (text) =>
      /^\/[^\s]*$/.test(text)
        ? undefined
        : `a path begins with "/" and holds no white space, ${JSON.stringify(text)} does not fit`,
  });

/** Paths in a list of exceptions: exact, or a prefix when they end in `*`. */
export const pathPrefix = () =>
  string({
    max: 2048,
    code: "bad_path",
    noun: "a path",
    check: (text) =>
      /^\/[^\s*]*\*?$/.test(text)
        ? undefined
        : `must be a path such as "/health", or a prefix such as "/static/*", not ${JSON.stringify(text)}`,
  });

/** Why a pattern can't be a linear-time regular expression. The data plane has the last word; this finds the usual mistakes with a place. */
export function regexProblem(text: string): string | undefined {
  if (/\(\?<?[=!]/.test(text)) return "look-around is not possible: regular expressions here run in linear time";
  if (/(?:^|[^\\])(?:\\\\)*\\[1-9]/.test(text))
    return "a back-reference is not possible: regular expressions here run in linear time";
  // Spellings of Rust's syntax that JavaScript does not know; what is left must be valid in both.
  const common = text
    .replaceAll("(?P<", "(?<")
    .replaceAll(/\(\?[imsxuU-]+\)/g, "")
    .replaceAll(/\(\?[imsxuU-]+:/g, "(?:")
    .replaceAll(/\\[AzZ]/g, "");
  if (/\[\[|&&|--|~~|\\[pP]/.test(common)) return undefined;
  try {
    new RegExp(common);
    return undefined;
  } catch (error) {
    return `is not a regular expression: ${(error as Error).message.replace(/^Invalid regular expression: /, "")}`;
  }
}

/** A linear-time regular expression. */
export const regex = (max = 1024) =>
  string({ min: 1, max, code: "bad_regex", noun: "a regular expression", check: regexProblem });

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Name of a header field. */
export const headerName = () =>
  string({
    min: 1,
    max: 256,
    code: "bad_header",
    noun: "a header name",
    check: (text) => (TOKEN.test(text) ? undefined : `${JSON.stringify(text)} is not a header name`),
  });

/** Control characters except the tab. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/;

/** Value of a header field. */
export const headerValue = (max = 8192) =>
  string({
    max,
    code: "bad_header",
    noun: "a header value",
    check: (text) => (CONTROL.test(text) ? "a header value holds no control characters" : undefined),
  });

/** Method: any token; upper case in the result of lowering. */
export const method = () =>
  string({
    max: 32,
    code: "bad_method",
    noun: "a method",
    check: (text) => (text === "" || TOKEN.test(text) ? undefined : `${JSON.stringify(text)} is not a method`),
  });

/** Path of a file; relative ones are meant from the configuration file's folder. */
export const file = () => string({ min: 1, max: 4096, noun: "the path of a file" });

/** Absolute http(s) URL. */
export const httpUrl = () =>
  string({
    max: 2048,
    code: "bad_url",
    noun: "a URL",
    check: (text) => {
      try {
        const url = new URL(text);
        if (url.protocol === "http:" || url.protocol === "https:") return undefined;
      } catch {}
      return `must be a URL such as "https://idp.example.com", not ${JSON.stringify(text)}`;
    },
  });
