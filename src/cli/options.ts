import { InvalidArgumentError, Option } from "commander";

/** `-c, --config <file>` */
export const configOption = () =>
  new Option("-c, --config <file>", "configuration file (JSON, YAML, TypeScript or JavaScript)");

/** `--json` */
export const jsonOption = () => new Option("--json", "print JSON");

/** `--strict` */
export const strictOption = () => new Option("--strict", "unknown keys are errors everywhere");

/** `--pid <pid>` */
export const pidOption = () =>
  new Option("--pid <pid>", "process id, where more than one Titan runs").argParser(integer(1, 2 ** 31));

/** `--socket <path>` */
export const socketOption = () => new Option("--socket <path>", "control socket, where it is not in its usual place");

/** An integer argument in a range. */
export function integer(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < low || value > high) {
      throw new InvalidArgumentError(`It must be a whole number from ${low} to ${high}.`);
    }
    return value;
  };
}
