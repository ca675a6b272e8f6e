import { type ParseArgsConfig, parseArgs } from "node:util";

/** The command's arguments; of wrong ones what is wrong and the usage, and the end. */
export function args<T extends ParseArgsConfig>(usage: string, config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    console.error(`${(error as Error).message}\nusage: ${usage}`);
    process.exit(1);
  }
}
