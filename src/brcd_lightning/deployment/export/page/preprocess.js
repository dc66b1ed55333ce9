// Converts RGBA pixels to network input. Resizes as torchvision does for uint8 images on a CPU: a triangle filter as
// wide as the reduction (antialias), rows before columns, 16-bit weights, each pass rounded to bytes.

/** Weights of one pass, with `shift` fractional bits; target pixel i reads `count[i]` source pixels from `first[i]`. */
function triangle(source, target) {
  const scale = source / target;
  const support = Math.max(scale, 1);
  const first = new Int32Array(target);
  const count = new Int32Array(target);
  const width = Math.ceil(support) * 2 + 1;
  const exact = new Float64Array(target * width);
  let largest = 0;
  for (let i = 0; i < target; i += 1) {
    const center = scale * (i + 0.5);
    first[i] = Math.max(Math.trunc(center - support + 0.5), 0);
    count[i] = Math.min(Math.trunc(center + support + 0.5), source) - first[i];
    let sum = 0;
    for (let j = 0; j < count[i]; j += 1) {
      const distance = Math.abs((j + first[i] - center + 0.5) / support);
      exact[i * width + j] = Math.max(0, 1 - distance);
      sum += exact[i * width + j];
    }
    for (let j = 0; j < count[i]; j += 1) {
      exact[i * width + j] /= sum;
      largest = Math.max(largest, exact[i * width + j]);
    }
  }
  let shift = 0;
  while (shift < 22 && Math.trunc(0.5 + largest * 2 ** (shift + 1)) < 2 ** 15) shift += 1;
  const weights = Int32Array.from(exact, (weight) => Math.trunc(0.5 + weight * 2 ** shift));
  return { first, count, width, weights, shift };
}

/** One pass over `lines` lines of `source` pixels. The last four arguments are strides of pixels and lines in bytes. */
function pass(input, output, lines, source, target, inPixel, inLine, outPixel, outLine) {
  const { first, count, width, weights, shift } = triangle(source, target);
  const half = 1 << (shift - 1);
  for (let line = 0; line < lines; line += 1) {
    for (let i = 0; i < target; i += 1) {
      const start = line * inLine + first[i] * inPixel;
      for (let channel = 0; channel < 3; channel += 1) {
        let sum = half;
        for (let j = 0; j < count[i]; j += 1) sum += weights[i * width + j] * input[start + j * inPixel + channel];
        output[line * outLine + i * outPixel + channel] = Math.min(255, Math.max(0, sum >> shift));
      }
    }
  }
}

/** Resized pixels {data, width, height} in RGBA; A is undefined. */
export function resize(image, width, height) {
  let { data } = image;
  if (width !== image.width) {
    const wide = new Uint8ClampedArray(width * image.height * 4);
    pass(data, wide, image.height, image.width, width, 4, image.width * 4, 4, width * 4);
    data = wide;
  }
  if (height !== image.height) {
    const whole = new Uint8ClampedArray(width * height * 4);
    pass(data, whole, width, image.height, height, width * 4, 4, width * 4, 4);
    data = whole;
  }
  return { data, width, height };
}

/** Rounds half to even, as Python's round does. */
function round(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/** Resizes the shorter side, then crops the centre. */
function centerCrop(image, size) {
  const side = round((size * 8) / 7);
  const shorter = Math.min(image.width, image.height);
  const longer = Math.trunc((side * Math.max(image.width, image.height)) / shorter);
  const upright = image.width <= image.height;
  const resized = resize(image, upright ? side : longer, upright ? longer : side);
  const left = round((resized.width - size) / 2);
  const top = round((resized.height - size) / 2);
  const data = new Uint8ClampedArray(size * size * 4);
  for (let row = 0; row < size; row += 1) {
    const start = ((top + row) * resized.width + left) * 4;
    data.set(resized.data.subarray(start, start + size * 4), row * size * 4);
  }
  return { data, width: size, height: size };
}

/** Network input, 3 x S x S bytes, from pixels {data: RGBA, width, height} by the encoder's `transform`. */
export function prepare(image, transform) {
  const { size } = transform;
  // center_crop defaults to true for natural images.
  const crops = transform.type === "natural_images" && transform.center_crop !== false;
  const { data } = crops ? centerCrop(image, size) : resize(image, size, size);
  const planes = new Uint8Array(3 * size * size);
  for (let pixel = 0; pixel < size * size; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) planes[channel * size * size + pixel] = data[pixel * 4 + channel];
  }
  return planes;
}
