/** docs/api.md by its path, and items of the main entry point that have no description. */
export function apiReference(): { files: Record<string, string>; missing: string[] };
