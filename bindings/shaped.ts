import { fail } from "./assert.js";
import type { Engine, Resource } from "./engine.js";

/** What has a shape and occupies engine memory: tensors, sparse ones, and weights. */
export abstract class Shaped {
  /** @internal */
  readonly engine: Engine;
  /** @internal The shape as operations read it: V8 takes up to 0.8 µs a call longer for a frozen array. */
  readonly dims: readonly number[];
  #shape: readonly number[] | undefined;
  readonly #kind: "tensors" | "weights";
  readonly #resource: Resource;
  #disposed = false;

  /** @internal */
  constructor(engine: Engine, dims: readonly number[], kind: "tensors" | "weights", resource: Resource) {
    this.engine = engine;
    this.dims = dims;
    this.#kind = kind;
    this.#resource = resource;
    engine.adopt(this, resource, kind);
  }

  /** Dimensions, outermost first; of a weight `[out, in]` or `[out, in / groups, kh, kw]`, whatever the layout of its data was. */
  get shape(): readonly number[] {
    this.#shape ??= Object.freeze(this.dims.slice());
    return this.#shape;
  }

  /** Whether this, or its engine, was disposed. */
  get disposed(): boolean {
    return this.#disposed || this.engine.disposed;
  }

  /** @internal Refuses what was disposed, or is not of this engine. */
  assertLive(name: string, engine = this.engine): void {
    if (this.engine !== engine) fail("ERR_ENGINE", name, `a ${this.#one} of this engine`, "one of another engine");
    if (this.disposed) fail("ERR_DISPOSED", name, `a ${this.#one} that lives`, "a disposed one");
  }

  get #one(): string {
    return this.#kind.slice(0, -1);
  }

  /** Gives the memory back. A second call does nothing. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.engine.release(this, this.#resource, this.#kind);
  }

  /** @internal What `console.log` shows in Node, Bun and Deno; the fields would be the engine and its tables. */
  [Symbol.for("nodejs.util.inspect.custom")](
    _: number,
    o: object,
    inspect: (value: object, o: object) => string,
  ): string {
    const names = this.disposed
      ? ["shape", "disposed"]
      : ["shape", "layout", "format", "nnz", "density", "byteLength", "data"];
    const shown = names.filter((name) => name in this).map((name) => [name, Reflect.get(this, name)]);
    return `${this.constructor.name} ${inspect(Object.fromEntries(shown), o)}`;
  }

  /** For `using`. */
  declare [Symbol.dispose]: () => void;
}

// Hosts without `using` have no such symbol.
if (Symbol.dispose) Object.defineProperty(Shaped.prototype, Symbol.dispose, { value: Shaped.prototype.dispose });
