/** The YAML parser, loaded when a file needs it. A file of its own: the bundler gives a dynamic import of a CommonJS package no names. */
export { LineCounter, parseDocument } from "yaml";
