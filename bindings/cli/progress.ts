// How far a command is, on stderr.
import { SingleBar } from "cli-progress";

/** A bar on a person's terminal; stdout and files of stderr stay clean. */
export function progressOf(doing: string, total: number): { add(done: number): void; stop(): void } {
  if (!process.stderr.isTTY) return { add() {}, stop() {} };
  // The commands wait for nothing, so that a handler of the bar's own for Ctrl-C would only run at the end: none, and nothing
  // on the terminal to put back.
  const terminal = { stream: process.stderr, hideCursor: false, linewrap: true, gracefulExit: false };
  const bar = new SingleBar({ format: `${doing} [{bar}] {percentage}%`, clearOnComplete: true, ...terminal });
  bar.start(total, 0);
  return { add: (done) => bar.increment(done), stop: () => bar.stop() };
}
