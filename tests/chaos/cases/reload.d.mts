/** What a case of the chaos suite found. */
export interface Outcome {
  figure: string;
  good: boolean;
}

/** Reloads under open WebSocket, SSE and gRPC streams. */
export const streams: {
  run(kind: "titan" | "nginx" | "haproxy", options?: { reloads?: number; each?: number }): Promise<Outcome>;
};
