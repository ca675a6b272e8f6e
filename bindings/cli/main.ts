// The `skipzeros` command.
// Exit codes: 0, 1 for a file or host that will not do, 2 for a command line that is wrong.
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { parsePattern } from "../patterns.js";
import { runBench } from "./bench.js";
import { runInspect } from "./inspect.js";
import { version } from "./machine.js";
import { messageOf } from "./model.js";
import { FORMATS, parseFormat, runPack } from "./pack.js";
import { printable } from "./table.js";

/** A reader of one option's text, whose error is one of the command line. */
const option =
  <T>(read: (text: string) => T) =>
  (text: string): T => {
    try {
      return read(text);
    } catch (error) {
      throw new InvalidArgumentError(messageOf(error));
    }
  };

const regex = option((text) => new RegExp(text, "u"));
const simd = () => new Option("--simd <build>", "engine build").choices(["auto", "simd128", "relaxed"]).default("auto");
const json = ["--json", "print one JSON object in place of the tables"] as const;

const program = new Command("skipzeros")
  .description(
    "Pruned neural networks, fast on the CPU: inspect and pack models, and measure what zeros are worth on this machine.",
  )
  .version(version)
  .exitOverride();

program
  .command("inspect")
  .description(
    'List every weight matrix of a model: its zeros, the pattern in them, the format that "auto" takes, and why',
  )
  .argument("<file>", "a safetensors file, packed or not")
  .option("--measure", "time every matrix on this machine, dense and packed")
  .option(...json)
  .addOption(simd())
  .action(runInspect);

program
  .command("pack")
  .description(
    "Write a model with its weight matrices (float tensors of rank 2 and 4) packed, as float32, for engine.deserialize; " +
      "other tensors pass as they are",
  )
  .argument("<in>", "a safetensors file")
  .argument("<out>", "the file to write; one that is there is replaced")
  .option(
    "--prune <pattern>",
    'prune by magnitude first: "90%", "4x1@90%", "2:4", "complementary:20x4"',
    option(parsePattern),
  )
  .option("--format <format>", FORMATS, option(parseFormat))
  .option("--only <regex>", "pack (and prune) only tensors of such names", regex)
  .option("--skip <regex>", "leave tensors of such names as they are", regex)
  .option(...json)
  .addOption(simd())
  .action(runPack);

program
  .command("bench")
  .description("Measure for a minute from how many zeros on each format is faster than dense on this machine")
  .option("--quick", "fewer shapes and rounds: ten to twenty seconds")
  .option("--only <regex>", 'measure only rows of such names, such as "linear, 1 row, 768 → 768, csr"', regex)
  .option(...json)
  .addOption(simd())
  .action(runBench);

// A reader that has seen enough (`| head`) closes the pipe; that is no error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  process.stderr.write(`skipzeros: the result cannot be printed: ${messageOf(error)}\n`);
  process.exit(1);
});

try {
  await program.parseAsync();
} catch (error) {
  // Commander has printed its own message (usage, help or version) by now.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    process.stderr.write(`skipzeros: ${printable(messageOf(error))}\n`);
    process.exitCode = 1;
  }
}
