/** Titan: exports only. */
export { ERRORS, type ErrorCode, type ErrorEntry, TitanError } from "./errors.ts";
export { createGateway, Gateway, type GatewayOptions, type GatewaySource } from "./gateway/gateway.ts";
export type {
  Address,
  ExplainedAction,
  ExplainRequest,
  Explanation,
  GatewayEvents,
  GatewayState,
  NativeEvent,
  RouteRow,
  Status,
} from "./gateway/types.ts";
export type { TitanLogger } from "./log/logger.ts";
export { version } from "./version.ts";
