/** What was made for the last few keys; the least recently used makes room. */
export class Recent<K, V> {
  /** By key, most recently used last: a Map keeps the order of insertion. */
  readonly entries = new Map<K, V>();
  readonly #most: number;
  readonly #drop: (value: V) => void;
  #last: K | undefined;
  /** Whether the last get made what it gave. */
  #made = false;

  /** @param most entries kept; `drop` is told of each one that leaves */
  constructor(most: number, drop: (value: V) => void = () => {}) {
    this.#most = most;
    this.#drop = drop;
  }

  get<T extends V>(key: K, make: () => T): T {
    const known = this.entries.get(key) as T | undefined;
    this.#made = false;
    if (known !== undefined) {
      if (key !== this.#last) {
        this.entries.delete(key);
        this.entries.set(key, known);
        this.#last = key;
      }
      return known;
    }
    const made = make();
    this.#made = true;
    this.entries.set(key, made);
    this.#last = key;
    if (this.entries.size > this.#most) {
      const [oldest, value] = this.entries.entries().next().value as [K, V];
      this.entries.delete(oldest);
      this.#drop(value);
    }
    return made;
  }

  /** Takes back what the last get made, if it made anything. */
  undo(): void {
    const made = this.entries.get(this.#last as K);
    if (!this.#made || made === undefined) return;
    this.#made = false;
    this.entries.delete(this.#last as K);
    this.#drop(made);
  }

  clear(): void {
    for (const value of this.entries.values()) this.#drop(value);
    this.entries.clear();
  }
}
