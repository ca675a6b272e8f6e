// skipzeros itself, in the peers' form: weights packed once, inputs and results in the engine's memory, inputs of which most are
// zero as lists.

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

  /** An input in the engine: as it is, or as lists of what is not zero. */
  function given(x, shape, sparse) {
    const tensor = engine.tensor(x, shape);
    if (!sparse) return tensor;
    const lists = engine.toSparse(tensor);
    tensor.dispose();
    return lists;
  }

  function build({ x, xShape, yShape, w, wShape, conv, format, sparse, winners }) {
    if (winners) return buildWinners(x, xShape, winners);
    if (!conv) {
      const packed = engine.pack(w, wShape, { format });
      const input = given(x, xShape, sparse);
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
    const input = given(turn(x, 1, size * size, c), [1, c, size, size], sparse);
    const options = { padding: conv.same ? "same" : 0 };
    const out = engine.conv2d(input, packed, options);
    return {
      run: () => void engine.conv2d(input, packed, { ...options, out }),
      result: () => turn(out.toArray(), 1, m, yShape[1] * yShape[2]),
      free: () => dispose([packed, input, out]),
    };
  }

  /** Selections, the result's lists reused; images turned as above. */
  function buildWinners(x, xShape, winners) {
    const [, height, width, c] = xShape;
    const image = xShape.length === 4;
    const input = image
      ? engine.tensor(turn(x, 1, height * width, c), [1, c, height, width])
      : engine.tensor(x, xShape);
    const out = engine.kWinners(input, winners);
    return {
      run: () => void engine.kWinners(input, { ...winners, out }),
      result() {
        const dense = out.toDense();
        const y = dense.toArray();
        dense.dispose();
        return image ? turn(y, 1, c, height * width) : y;
      },
      free: () => dispose([input, out]),
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
