/** Titan: exports only. */
export {
  type Config,
  type ConfigEnvironment,
  type ConfigExport,
  type ConfigInput,
  type DefinedConfig,
  defineConfig,
  formatIssues,
  type Issue,
  type Loaded,
  type LoadOptions,
  type LoadResult,
  loadConfig,
  type Refused,
  resolveConfig,
} from "./config/index.ts";
export type { PackageMiddleware } from "./config/schema/middleware.ts";
export type {
  BuiltInMiddleware,
  ConfigShape,
  HookMiddleware,
  MiddlewareUse,
  TypedRoute,
} from "./config/shape.ts";
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
export {
  type DefinedRoute,
  defineHook,
  defineHookFactory,
  defineRoute,
  type RouteHandlers,
} from "./hooks/define.ts";
export type {
  Answer,
  BodyMode,
  EditHeaders,
  EditRequest,
  ErrorContext,
  Hook,
  HookFactory,
  HookInput,
  HookLogger,
  HookRequest,
  HookResult,
  Identity,
  LifecycleContext,
  LogContext,
  NewBody,
  OptionsSchema,
  Params,
  PathParams,
  ReadHeaders,
  Reads,
  RequestContext,
  ResponseContext,
  When,
} from "./hooks/types.ts";
export type { TitanLogger } from "./log/types.ts";
export { version } from "./version.ts";
