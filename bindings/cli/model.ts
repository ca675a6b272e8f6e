// Files from outside.
import { readFileSync } from "node:fs";
import { readSafetensors, type SafetensorsFile } from "../index.js";

/** A safetensors file, and how many bytes it has; what is wrong with it is said in a sentence. */
export function readModel(path: string): SafetensorsFile & { bytes: number } {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") throw new Error(`There is no file ${path}.`);
    if (code === "EISDIR") throw new Error(`${path} is a folder, not a safetensors file.`);
    if (code === "ERR_FS_FILE_TOO_LARGE") throw new Error(`${path} is over 2 GiB: take its shards one by one.`);
    throw new Error(`${path} cannot be read: ${message}`);
  }
  try {
    return { ...readSafetensors(bytes), bytes: bytes.length };
  } catch (error) {
    throw new Error(`${path} is not a safetensors file: ${messageOf(error)}`);
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Puts a name before the message of what goes wrong. */
export function named<T>(name: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw new Error(`${name}: ${messageOf(error)}`);
  }
}
