import { type ParseArgsConfig, parseArgs } from "node:util";

/** Parses the command's arguments; wrong ones print the error and the usage and end the process. */
export function args<T extends ParseArgsConfig>(usage: string, config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    console.error(`${(error as Error).message}\nusage: ${usage}`);
    process.exit(1);
  }
}
