import { Argument, Command } from "commander";
import { print } from "./io.ts";

/** `titan completion` */
export function completion(root: () => Command): Command {
  return new Command("completion")
    .description("Print a completion script for a shell.")
    .addArgument(new Argument("<shell>", "shell").choices(["bash", "zsh", "fish"]))
    .addHelpText(
      "after",
      "\nExamples:\n  source <(titan completion bash)\n  titan completion fish > ~/.config/fish/completions/titan.fish",
    )
    .action((shell: "bash" | "zsh" | "fish") => {
      print(SHELLS[shell](words(root())));
    });
}

interface Words {
  name: string;
  description: string;
  options: { flag: string; description: string; choices: readonly string[] }[];
  /** What the first argument may be; empty where it is a file or anything else. */
  first: readonly string[];
}

/** First arguments that are often one of a few words, and may be others. */
const USUAL: Readonly<Record<string, readonly string[]>> = {
  init: ["minimal", "typescript", "embedded"],
  explain: ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"],
};

function words(root: Command): Words[] {
  return root.commands.map((command) => ({
    name: command.name(),
    description: command.description().replace(/["'`$\\:[\]]/g, ""),
    first: command.registeredArguments[0]?.argChoices ?? USUAL[command.name()] ?? [],
    options: command.options.flatMap(({ long, description, argChoices }) =>
      long ? [{ flag: long, description: description.replace(/["'`$\\:[\]]/g, ""), choices: argChoices ?? [] }] : [],
    ),
  }));
}

const flagsOf = (all: Words[], command: string): string =>
  (all.find(({ name }) => name === command)?.options ?? []).map(({ flag }) => flag).join(" ");

const SHELLS: Record<"bash" | "zsh" | "fish", (all: Words[]) => string> = {
  bash: (all) => `_titan() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  case "$previous" in
${all
  .flatMap(({ options }) => options.filter(({ choices }) => choices.length > 0))
  .filter((option, i, list) => list.findIndex(({ flag }) => flag === option.flag) === i)
  .map(({ flag, choices }) => `    ${flag}) COMPREPLY=($(compgen -W "${choices.join(" ")}" -- "$current")); return ;;`)
  .join("\n")}
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then
    case "$current" in
      -*) COMPREPLY=($(compgen -W "${flagsOf(all, "serve")} --help --version" -- "$current")) ;;
      *) COMPREPLY=($(compgen -W "${all.map(({ name }) => name).join(" ")} help" -- "$current")) ;;
    esac
    return
  fi
  case "\${COMP_WORDS[1]}:$current" in
${all.map(({ name, options }) => `    ${name}:-*) COMPREPLY=($(compgen -W "${options.map(({ flag }) => flag).join(" ")} --help" -- "$current")); return ;;`).join("\n")}
  esac
  case "\${COMP_WORDS[1]}:$COMP_CWORD" in
${all
  .filter(({ first }) => first.length > 0)
  .map(({ name, first }) => `    ${name}:2) COMPREPLY=($(compgen -W "${first.join(" ")}" -- "$current")) ;;`)
  .join("\n")}
    help:2) COMPREPLY=($(compgen -W "${all.map(({ name }) => name).join(" ")}" -- "$current")) ;;
    *) COMPREPLY=($(compgen -f -- "$current")) ;;
  esac
}
complete -o filenames -F _titan titan`,
  zsh: (all) => `#compdef titan
_titan() {
  local -a commands
  commands=(
${all.map(({ name, description }) => `    '${name}:${description}'`).join("\n")}
  )
  if (( CURRENT == 2 )); then _describe command commands; return; fi
  case "$words[2]" in
${all
  .map(({ name, options, first }) => {
    const flags = options.map(({ flag, description, choices }) => {
      const value = choices.length > 0 ? `:value:(${choices.join(" ")})` : "";
      return `'${flag}[${description}]${value}'`;
    });
    return `    ${name}) _arguments ${[...flags, ...(first.length > 0 ? [`'1:argument:(${first.join(" ")})'`] : []), "'*:file:_files'"].join(" ")} ;;`;
  })
  .join("\n")}
  esac
}
compdef _titan titan`,
  fish: (all) =>
    [
      "complete -c titan -f -n __fish_use_subcommand",
      ...all.map(
        ({ name, description }) => `complete -c titan -n __fish_use_subcommand -a ${name} -d '${description}'`,
      ),
      ...all
        .filter(({ first }) => first.length > 0)
        .map(({ name, first }) => `complete -c titan -n '__fish_seen_subcommand_from ${name}' -a '${first.join(" ")}'`),
      ...all.flatMap(({ name, options }) =>
        options.map(({ flag, description, choices }) => {
          const value = choices.length > 0 ? ` -x -a '${choices.join(" ")}'` : "";
          return `complete -c titan -n '__fish_seen_subcommand_from ${name}' -l ${flag.slice(2)}${value} -d '${description}'`;
        }),
      ),
    ].join("\n"),
};
