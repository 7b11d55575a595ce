import type { NativeConfig } from "../config/index.ts";
import { messageOf, TitanError } from "../errors.ts";
import { loadNative } from "../native.ts";
import type { ExplainRequest, Explanation } from "./types.ts";

/** Which route a request takes under a configuration. The data plane's own code decides; nothing is started. */
export async function explainUnder(native: NativeConfig, request: ExplainRequest): Promise<Explanation> {
  const addon = await loadNative();
  try {
    return JSON.parse(addon.explainConfig(JSON.stringify(native), JSON.stringify(request)));
  } catch (cause) {
    throw new TitanError("TITAN_USAGE", `The request cannot be explained: ${messageOf(cause)}`, { cause });
  }
}
