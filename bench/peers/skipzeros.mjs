// skipzeros itself, in the peers' form: weights packed once, inputs and results in the engine's memory.

/** [outer][pixels][inner] → [outer][inner][pixels]. */
function turn(a, outer, pixels, inner) {
  const y = new Float32Array(a.length);
  for (let o = 0; o < outer; o++)
    for (let p = 0; p < pixels; p++)
      for (let i = 0; i < inner; i++) y[(o * inner + i) * pixels + p] = a[(o * pixels + p) * inner + i];
  return y;
}

export function skipzeros(engine) {
  const dispose = (owners) => {
    for (const owner of owners) owner.dispose();
  };

  function build({ x, xShape, w, wShape, conv, format }) {
    if (!conv) {
      const packed = engine.pack(w, wShape, { format });
      const input = engine.tensor(x, xShape);
      const out = engine.linear(input, packed);
      return {
        run: () => void engine.linear(input, packed, { out }),
        result: () => out.toArray(),
        free: () => dispose([packed, input, out]),
      };
    }
    // The peers take nhwc, ours its own nchw; pixels and weights are the same.
    const [, size, , c] = xShape;
    const [m, kernel] = wShape;
    const packed = engine.pack(turn(w, m, kernel * kernel, c), [m, c, kernel, kernel], { format });
    const input = engine.tensor(turn(x, 1, size * size, c), [1, c, size, size]);
    const options = { padding: conv.same ? "same" : 0 };
    const out = engine.conv2d(input, packed, options);
    return {
      run: () => void engine.conv2d(input, packed, { ...options, out }),
      result: () => turn(out.toArray(), 1, m, size * size),
      free: () => dispose([packed, input, out]),
    };
  }

  /** The first `depth` layers of a chain (works.mjs), two tensors taking turns. */
  function buildChain({ size, channels: c, x, xShape, first, layers, format }, depth) {
    const [, height, width] = xShape;
    const input = engine.tensor(turn(x, 1, height * width, 3), [1, 3, height, width]);
    const turns = [0, 1].map(() => engine.tensor(new Float32Array(c * size * size), [1, c, size, size]));
    const step = (packed, bias, extra, i) => ({
      packed,
      from: i ? turns[(i - 1) % 2] : input,
      options: { ...extra, bias: engine.tensor(bias, [c]), activation: "relu6", out: turns[i % 2] },
    });
    const steps = [
      step(
        engine.pack(turn(first.w, c, 9, 3), [c, 3, 3, 3], { format: "dense" }),
        first.bias,
        { stride: 2, padding: 1 },
        0,
      ),
      ...layers
        .slice(0, depth)
        .map(({ w, bias }, i) => step(engine.pack(w, [c, c, 1, 1], { format }), bias, {}, i + 1)),
    ];
    const run = () => {
      for (const { from, packed, options } of steps) engine.conv2d(from, packed, options);
    };
    return {
      run,
      result() {
        run();
        return turn(turns[depth % 2].toArray(), 1, c, size * size);
      },
      free: () => dispose([input, ...turns, ...steps.flatMap(({ packed, options }) => [packed, options.bias])]),
    };
  }

  return { name: "skipzeros", build, chains: [{ name: "skipzeros", build: buildChain }] };
}
