/** What a person writes as the URL of a request, taken apart without changing it: how Titan normalises a path is part of what is asked. */

/** A URL's parts. */
export interface Target {
  /** Absent for a path alone. */
  scheme?: "http" | "https";
  /** Host and port as written; absent for a path alone. */
  host?: string;
  /** Path and query as they stand on the wire. */
  target: string;
}

/** Takes `https://host/path?query`, or a path alone, apart; `undefined` where it is neither. */
export function parseTarget(url: string): Target | undefined {
  // OPTIONS of the server as a whole.
  if (url === "*") return { target: "*" };
  const parts = /^(?:(https?):\/\/([^/?#]+))?(\/[^#]*|\?[^#]*)?(?:#.*)?$/i.exec(url);
  if (!parts) return undefined;
  const [, scheme, host, target = "/"] = parts;
  return {
    ...(scheme !== undefined && { scheme: scheme.toLowerCase() as "http" | "https" }),
    ...(host !== undefined && { host }),
    target: target.startsWith("?") ? `/${target}` : target,
  };
}

/** An address as it stands in a URL of this machine. */
export function reachable(address: string): string {
  if (address === "0.0.0.0" || address === "::") return "localhost";
  return address.includes(":") ? `[${address}]` : address;
}
