// What MobileNetV1 and V2 are made of: layers in order, their shapes, and the names that their tensors have in files.

export type Version = 1 | 2;

/** A convolution of nchw images, as it is before its numbers are known. */
export interface LayerPlan {
  /** Name in the file without ".weight": "features.1.conv.0.0". */
  name: string;
  /** Name of its batch norm in the file. */
  norm: string;
  /** Of a depthwise layer, groups are the channels. */
  kind: "conv" | "depthwise" | "pointwise";
  /** `[out, in / groups, kh, kw]` */
  shape: [number, number, number, number];
  stride: 1 | 2;
  padding: 0 | 1;
  relu6: boolean;
  /** Index of the layer whose output is added to this one's (V2), if any. */
  residual?: number;
}

/** Channels and stride of V1's thirteen blocks, each a depthwise and a pointwise convolution. */
const V1: readonly [out: number, stride: 1 | 2][] = [
  [64, 1],
  [128, 2],
  [128, 1],
  [256, 2],
  [256, 1],
  [512, 2],
  [512, 1],
  [512, 1],
  [512, 1],
  [512, 1],
  [512, 1],
  [1024, 2],
  [1024, 1],
];

/** V2's bottlenecks: how much wider they are inside, channels, how many in a row, stride of the first. */
const V2: readonly [expansion: number, out: number, repeats: number, stride: 1 | 2][] = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
];

/** As torchvision and TensorFlow round: to a multiple of 8, at least 8, and never down by more than a tenth. */
function channels(count: number, multiplier: number): number {
  const wanted = count * multiplier;
  const rounded = Math.max(8, Math.floor((wanted + 4) / 8) * 8);
  return rounded < 0.9 * wanted ? rounded + 8 : rounded;
}

/** What a network is made of, in order, with the names that its tensors have in a file. */
export function planOf(
  version: Version,
  multiplier = 1,
): { layers: LayerPlan[]; classifier: string; features: number } {
  return version === 1 ? planV1(multiplier) : planV2(multiplier);
}

function planV1(multiplier: number): ReturnType<typeof planOf> {
  let width = channels(32, multiplier);
  const layers = [conv("model.0.0", "model.0.1", 3, width)];
  V1.forEach(([out, stride], i) => {
    const block = `model.${i + 1}`;
    layers.push(depthwise(`${block}.0`, `${block}.1`, width, stride));
    layers.push(pointwise(`${block}.3`, `${block}.4`, width, (width = channels(out, multiplier))));
  });
  return { layers, classifier: "fc", features: width };
}

function planV2(multiplier: number): ReturnType<typeof planOf> {
  let width = channels(32, multiplier);
  const layers = [conv("features.0.0", "features.0.1", 3, width)];
  let block = 0;
  for (const [expansion, count, repeats, first] of V2) {
    const out = channels(count, multiplier);
    for (let i = 0; i < repeats; i++) {
      const name = `features.${++block}.conv`;
      const stride = i === 0 ? first : 1;
      const before = layers.length - 1;
      const inside = width * expansion;
      let part = 0;
      if (expansion > 1) layers.push(pointwise(`${name}.${part}.0`, `${name}.${part++}.1`, width, inside));
      layers.push(depthwise(`${name}.${part}.0`, `${name}.${part++}.1`, inside, stride));
      const last = pointwise(`${name}.${part}`, `${name}.${part + 1}`, inside, out);
      last.relu6 = false; // a bottleneck is linear
      if (stride === 1 && width === out) last.residual = before;
      layers.push(last);
      width = out;
    }
  }
  const features = channels(1280, Math.max(1, multiplier));
  const name = `features.${block + 1}`;
  layers.push(pointwise(`${name}.0`, `${name}.1`, width, features));
  return { layers, classifier: "classifier.1", features };
}

const conv = (name: string, norm: string, inn: number, out: number): LayerPlan => {
  return { name, norm, kind: "conv", shape: [out, inn, 3, 3], stride: 2, padding: 1, relu6: true };
};

const depthwise = (name: string, norm: string, width: number, stride: 1 | 2): LayerPlan => {
  return { name, norm, kind: "depthwise", shape: [width, 1, 3, 3], stride, padding: 1, relu6: true };
};

const pointwise = (name: string, norm: string, inn: number, out: number): LayerPlan => {
  return { name, norm, kind: "pointwise", shape: [out, inn, 1, 1], stride: 1, padding: 0, relu6: true };
};
