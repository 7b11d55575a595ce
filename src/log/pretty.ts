/** pino-pretty, loaded on terminals only. */
export { default as prettyStream } from "pino-pretty";
