import { Command } from "commander";
import { err, say } from "./io.ts";

/** `titan init` */
export function init(): Command {
  return new Command("init")
    .description("Write a configuration to start from. Files that exist are left alone.")
    .argument("[template]", "minimal (YAML), typescript, or embedded (a program)", "minimal")
    .option("-d, --directory <path>", "where to write", ".")
    .addHelpText("after", "\nExamples:\n  titan init\n  titan init typescript --directory gateway")
    .action(async (template: string, options: { directory: string }) => {
      const { write } = await import("./templates.ts");
      for (const { path, next } of write(template, options.directory)) {
        say(`${err.green("wrote")} ${path}${next ? `  ${err.dim(next)}` : ""}`);
      }
    });
}
