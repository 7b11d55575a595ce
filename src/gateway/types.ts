import type { TitanError } from "../errors.ts";

/** Where a gateway is in its life. */
export type GatewayState = "new" | "starting" | "running" | "draining" | "closed";

/** A bound listener. */
export interface Address {
  /** Name of the listener. */
  name: string;
  /** IP address. */
  address: string;
  /** TCP port. */
  port: number;
  /** What it speaks. */
  protocol: "http" | "https";
  /** How it is reached from this machine. */
  url: string;
}

/** Something that the data plane tells. */
export interface NativeEvent {
  /** How much it matters. */
  level: "info" | "warn" | "error";
  /** Stable name, such as `backend_down`. */
  name: string;
  /** One sentence. */
  message: string;
  /** What it is about, such as `backend`; names depend on the event. */
  fields: Record<string, string>;
}

/** Events of a gateway and their arguments. */
export interface GatewayEvents {
  /** It serves. */
  listening: [addresses: Address[]];
  /** Another configuration is served. */
  reload: [generation: number];
  /** A configuration was refused; the old one is still served. */
  reloadRefused: [error: TitanError];
  /** The data plane tells something: a backend went down or came back, for instance. */
  event: [event: NativeEvent];
  /** Draining began. */
  draining: [];
  /** It has ended. */
  close: [];
}

/** State of a data plane. */
export interface Status {
  /** `running`, `pre_drain`, `draining` or `stopped`. */
  phase: string;
  /** Number of the configuration that is served; counts up with each one applied. */
  generation: number;
  /** Configurations in memory: the one that is served, and those of requests that began under an earlier one. */
  snapshots: number;
  /** Milliseconds since the data plane started. */
  uptime_ms: number;
  /** Threads of the data plane. */
  workers: number;
  /** Number of routes. */
  routes: number;
  /** Bound listeners with their open connections. */
  listeners: { name: string; address: string; connections: number }[];
  /** Client connections of each thread. */
  shards: { shard: number; connections: number }[];
  /** Every upstream with the state of its backends. */
  upstreams: {
    name: string;
    status: string;
    backends: {
      backend: string;
      /** Absent where its name is not resolved. */
      address?: string;
      /** `up`, `half_open`, `circuit_open`, `ejected`, `unhealthy`, `draining` or `unresolved`. */
      status: string;
      weight: number;
      in_flight: number;
      connections: number;
      max_connections: number;
      waiting: number;
      /** Requests sent to it, tries included, and those that failed. */
      requests: number;
      failures: number;
      /** Times that it was ejected because its requests failed, and that its circuit opened. */
      ejections: number;
      circuit_opened: number;
      /** State of its circuit breaker; absent where it has none. */
      circuit?: "closed" | "open" | "half_open";
      /** How long it stays ejected or its circuit open; absent otherwise. */
      for_ms?: number;
      /** Weighted mean of its latency; absent where it is not measured. */
      latency_ms?: number;
      /** The last active health check; absent where there is none. */
      last_check?: { ok: boolean; error?: string; ago_ms: number; took_ms: number; passed: number; failed: number };
    }[];
  }[];
  /** Requests that wait for a connection to a backend. */
  waiting: number;
  /** Bytes of bodies that are held, their limit, requests refused for it, and tries or encoders done without. */
  buffers: { bytes: number; limit: number; refused: number; forgone: number };
  /** What limits have turned away. */
  limits: Limits;
}

/** What limits have turned away since the process began. */
export interface Limits {
  /** Client connections: by the limit of a listener or the process, by that of one address, and while Titan drains. */
  connections: { limit: number; address: number; shutdown: number };
  /** Requests, by the `stage` of the answer (`body_limit`, `overload` …), each there, hit or not. */
  requests: Record<string, number>;
  /** Requests, by the policy that refused them; only policies that did. */
  policies: Record<string, number>;
  /** Retries that a budget did not allow. */
  retries: number;
}

/** A row of the routing table. */
export interface RouteRow {
  /** Name of the route; its path where it was given none. */
  name: string;
  /** Empty = any. */
  methods: string[];
  /** Empty = any. */
  hosts: string[];
  /** The path pattern. */
  path: string;
  /** The greater wins among routes that match alike. */
  priority: number;
  /** Upstreams with their weights, a redirect's status and location, or a fixed answer's status. */
  to: string;
  /** Names of its policies. */
  policies: string[];
}

/** A request to explain. */
export interface ExplainRequest {
  /** Method, such as `GET`. */
  method: string;
  /** Host, with or without a port. */
  host: string;
  /** Path and query as they stand on the wire. */
  target: string;
  /** Header fields in their order. */
  headers?: [name: string, value: string][];
  /** Address of the client; default 127.0.0.1. */
  client_ip?: string;
}

/** Which route a request takes, and why. */
export interface Explanation {
  /** `builtin` is answered by Titan itself, `refused` is 400, `method_not_allowed` 405, `no_route` 404. */
  outcome: "route" | "builtin" | "refused" | "method_not_allowed" | "no_route";
  /** Which of Titan's own endpoints has the path, such as `health`. */
  builtin?: string;
  /** Why the request is refused. */
  message?: string;
  /** Value of `Allow`, where only the method is wrong. */
  allow?: string;
  /** What is matched. */
  host: string;
  /** The normalised path that is matched. */
  path: string;
  /** A CORS preflight that a policy answers; matched on the method that it asks about where that one's route answers it. */
  preflight: boolean;
  /** The route that takes it, with the values of its path's parameters and what it does. */
  route?: { name: string; pattern: string; params: [name: string, value: string][]; action: ExplainedAction };
  /** Every route whose host and path match, in the order in which they are tried. */
  considered: { route: string; pattern: string; taken: boolean; because: string }[];
  /** In the order in which they run. */
  policies: {
    name: string;
    type: string;
    /** Of a hook: the functions that it has, such as `onRequest`. */
    handlers?: string[];
    /** Of a hook: whether its `when` holds for this request. */
    applies?: boolean;
  }[];
}

/** What a route does with a request. */
export type ExplainedAction =
  | {
      type: "proxy";
      upstream: string;
      split: [upstream: string, weight: number][];
      target: string;
      backends: { backend: string; address?: string; weight: number; host: string; state: string }[];
    }
  | { type: "redirect"; status: number; location: string }
  | { type: "fixed"; status: number }
  | { type: "refused"; message: string };
