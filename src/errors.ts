/**
 * Every error that Titan throws on purpose: a code that programs can test for, the exit code of the command line, and what to do.
 * The table below is the source of `docs/errors.md`.
 */

import type { Issue } from "./config/issue.ts";

/** What a code stands for. */
export interface ErrorEntry {
  /** Exit code of the `titan` command: 1 at run time, 2 for usage or configuration. */
  readonly exit: 1 | 2;
  /** When it happens. */
  readonly when: string;
  /** What to do about it. */
  readonly fix: string;
}

/** All codes. */
export const ERRORS = {
  TITAN_USAGE: {
    exit: 2,
    when: "The command line, or an argument of a library call, makes no sense.",
    fix: "Run the command with --help; its examples show every form.",
  },
  TITAN_CONFIG_NOT_FOUND: {
    exit: 2,
    when: "The configuration file that was named does not exist or cannot be read.",
    fix: "Check the path and that the user that runs Titan may read it.",
  },
  TITAN_CONFIG_INVALID: {
    exit: 2,
    when: "The configuration has errors. All of them are listed, each with its place.",
    fix: "Correct what is listed; `titan check` repeats the validation without starting anything.",
  },
  TITAN_CONFIG_PINNED: {
    exit: 2,
    when: "A reload changes something that is fixed when Titan starts, such as `server.workers`.",
    fix: "Restart Titan to change it, or take the change back.",
  },
  TITAN_LISTEN: {
    exit: 1,
    when: "A listener's address cannot be bound: the port is taken, privileged, or the address is not this machine's.",
    fix: "Choose another port, stop the program that holds it (`ss -ltnp`), or grant CAP_NET_BIND_SERVICE for ports below 1024.",
  },
  TITAN_ADMIN_LISTEN: {
    exit: 1,
    when: "The admin listener's port is taken.",
    fix: "Set `metrics.port` to a free port, or `metrics.enabled` to false.",
  },
  TITAN_ADMIN_TOKEN: {
    exit: 2,
    when: "The admin listener is bound to an address that is not loopback and has no token.",
    fix: "Set `admin.token` (or TITAN_ADMIN_TOKEN), or bind it to 127.0.0.1.",
  },
  TITAN_NATIVE_MISSING: {
    exit: 1,
    when: "The native addon of this platform is not installed, or does not load.",
    fix: "Install without --omit=optional, or build it with `npm run build:addon` (needs Rust); TITAN_NATIVE_PATH names another file.",
  },
  TITAN_NATIVE_VERSION: {
    exit: 1,
    when: "The native addon is of another version than the JavaScript around it.",
    fix: "Reinstall the package, or rebuild the addon with `npm run build:addon`.",
  },
  TITAN_NATIVE_PANIC: {
    exit: 1,
    when: "A bug in the native part. The call failed, the process went on.",
    fix: "Please report it with the message and what led to it.",
  },
  TITAN_START: {
    exit: 1,
    when: "The data plane did not start for another reason than those above.",
    fix: "The message says what the system refused.",
  },
  TITAN_HOOK_START: {
    exit: 1,
    when: "A hook's `onStart` or `onReload` failed, or the thread that runs hooks did not start.",
    fix: "The message names the hook and what it threw.",
  },
  TITAN_STATE: {
    exit: 1,
    when: "A gateway was used in a state that does not allow it: started twice, or used after close().",
    fix: "Create a new gateway; one gateway starts once.",
  },
  TITAN_NOT_RUNNING: {
    exit: 1,
    when: "No running Titan of this user was found by its control socket.",
    fix: "Start one, or name its socket with --socket or its process with --pid.",
  },
  TITAN_AMBIGUOUS: {
    exit: 2,
    when: "More than one Titan of this user is running, so the command cannot know which is meant.",
    fix: "Name one with --pid or --socket.",
  },
  TITAN_CONTROL: {
    exit: 1,
    when: "The control socket cannot be made, or gave an answer that is not understood.",
    fix: "Check the directory's owner and rights (TITAN_RUNTIME_DIR), and that both sides are of one version.",
  },
  TITAN_TIMEOUT: {
    exit: 1,
    when: "Something did not answer in the time it was given.",
    fix: "The message says what was waited for.",
  },
} as const satisfies Record<string, ErrorEntry>;

/** A code of {@link ERRORS}. */
export type ErrorCode = keyof typeof ERRORS;

/** An error that Titan throws on purpose. */
export class TitanError extends Error {
  /** `TitanError`. */
  override readonly name = "TitanError";
  /** One of the table's codes. */
  readonly code: ErrorCode;
  /** What is wrong with a configuration; empty for other errors. */
  readonly issues: readonly Issue[];

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; issues?: readonly Issue[] } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.issues = options.issues ?? [];
  }

  /** Exit code of the command line for this error. */
  get exitCode(): 1 | 2 {
    return ERRORS[this.code].exit;
  }

  /** What to do about it. */
  get fix(): string {
    return ERRORS[this.code].fix;
  }

  /** The form of `--json`. */
  toJSON(): object {
    return {
      code: this.code,
      message: this.message,
      fix: this.fix,
      ...(this.issues.length > 0 && { issues: this.issues }),
    };
  }
}

/** The message of anything that may have been thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
