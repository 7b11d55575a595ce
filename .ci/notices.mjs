// Licences of the npm packages that are bundled: their authors ask that the text goes along.
import { manifest } from "./platforms.mjs";

export function notices(packages) {
  const intro = `${manifest.name} ${manifest.version} holds code of the following packages.\n`;
  return [
    intro,
    ...packages.map(
      ({ name, version, license, text }) =>
        `${"-".repeat(78)}\n${name} ${version} (${license})\n\n${(text ?? "").trim()}\n`,
    ),
  ].join("\n");
}
