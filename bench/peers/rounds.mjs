// Times of libraries that take turns.

/**
 * ms of one call, as the mean over a sample of at least 10 ms that begins with an untimed call: each library meets its own
 * data in the caches, not the last one's.
 */
async function sample(run, calls) {
  await run();
  const start = performance.now();
  for (let i = 0; i < calls; i++) {
    const pending = run();
    if (pending) await pending;
  }
  return (performance.now() - start) / calls;
}

/** How many calls fill a sample. First ones are slow and any may be interrupted, so that the least of three counts. */
async function callsOf(run) {
  for (let calls = 1; ; calls *= 2) {
    let ms = Infinity;
    for (let i = 0; i < 3; i++) ms = Math.min(ms, calls * (await sample(run, calls)));
    if (ms >= 10) return calls;
  }
}

/**
 * Least and median ms of each entry { name, id, builds }; of two depths of a chain, the difference of equal ranks over the layers
 * between them. Frees the builds.
 */
export async function time(entries, depths, rounds) {
  const all = entries.flatMap(({ builds }) => builds);
  for (const built of all) {
    for (let i = 0; i < 30; i++) await built.run();
    built.calls = await callsOf(built.run);
    built.times = [];
  }
  for (let r = 0; r < rounds; r++) for (const built of all) built.times.push(await sample(built.run, built.calls));
  for (const built of all) {
    built.times.sort((a, b) => a - b);
    built.free();
  }
  return entries.map(({ name, id, builds: [one, deep] }) => {
    const at = (i) => (deep ? (deep.times[i] - one.times[i]) / (depths[1] - depths[0]) : one.times[i]);
    return { name, id, min: at(0), median: at(rounds >> 1) };
  });
}
