// Photographs to the network's scale, number for number as dermask does it with Pillow; a browser's own scaling differs.
//
// Sources: dermask.scaling and dermask.inference.preparing; Pillow's Resample.c, Reduce.c and Image.resize, of which the
// bilinear filter for 8-bit pixels and reducing_gap are here. Images are {data: Uint8Array of width * height * 3, width,
// height}, RGB, row by row.

const PRECISION_BITS = 22; // of Pillow's whole-number weights
const REDUCING_GAP = 2; // as dermask.images.resize
const STRIP_PIXELS = 2 ** 22; // read back from the canvas at once: 16 MB, however large the photograph is

/** Width and height at which the network sees a photograph, before padding; as dermask.scaling.network_size. */
export function networkSize(width, height, settings) {
  const scale = Math.min(settings.min_size / Math.min(width, height), settings.max_size / Math.max(width, height));
  return { width: Math.max(1, Math.floor(width * scale)), height: Math.max(1, Math.floor(height * scale)) };
}

/** The side of the padded batch that a side of network size needs. */
export function paddedSide(side, settings) {
  return Math.ceil(side / settings.pad_multiple) * settings.pad_multiple;
}

/** By how much the decoder of dermask shrinks a JPEG while reading it, as JPEG allows: 8, 4, 2 or 1. */
export function jpegScale(width, height, wanted, margin) {
  const side = margin * Math.min(wanted.width, wanted.height);
  const most = Math.min(Math.floor(width / side), Math.floor(height / side));
  return [8, 4, 2].find((scale) => most >= scale) ?? 1;
}

/**
 * Pixels of a decoded photograph at the wanted size.
 *
 * The photograph is read back strip by strip and averaged on the way, so memory stays near that of the browser's own
 * decoded copy. A JPEG is averaged over blocks first, where dermask lets the decoder shrink it: within 0.2 of 255 of it.
 */
export function prepare(bitmap, isJpeg, wanted, margin) {
  const shrink = isJpeg ? jpegScale(bitmap.width, bitmap.height, wanted, margin) : 1;
  if (shrink > 1) return resize(readReduced(bitmap, shrink, shrink), wanted);
  const { x, y } = gapFactors(bitmap.width, bitmap.height, wanted);
  const image = readReduced(bitmap, x, y);
  return scale(image, wanted, bitmap.width / x, bitmap.height / y);
}

/** As dermask.images.resize. */
export function resize(image, wanted) {
  const { x, y } = gapFactors(image.width, image.height, wanted);
  const reduced = x > 1 || y > 1 ? reduce(image, x, y) : image;
  return scale(reduced, wanted, image.width / x, image.height / y);
}

function gapFactors(width, height, wanted) {
  return {
    x: Math.trunc(width / wanted.width / REDUCING_GAP) || 1,
    y: Math.trunc(height / wanted.height / REDUCING_GAP) || 1,
  };
}

function readReduced(bitmap, factorX, factorY) {
  const { width, height } = bitmap;
  const outWidth = Math.ceil(width / factorX);
  const outHeight = Math.ceil(height / factorY);
  const data = new Uint8Array(outWidth * outHeight * 3);
  const rows = Math.min(height, Math.max(1, Math.floor(STRIP_PIXELS / width / factorY)) * factorY);
  const canvas = new OffscreenCanvas(width, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.fillStyle = "#fff"; // transparent pixels become white, as in dermask
    context.fillRect(0, 0, width, count);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    const pixels = context.getImageData(0, 0, width, count).data;
    averageBlocks(pixels, 4, width, count, factorX, factorY, data, (top / factorY) * outWidth * 3);
  }
  return { data, width: outWidth, height: outHeight };
}

/** Means of blocks, those at the right and bottom edge of what is left; as Pillow's Image.reduce. */
export function reduce(image, factorX, factorY) {
  const width = Math.ceil(image.width / factorX);
  const height = Math.ceil(image.height / factorY);
  const data = new Uint8Array(width * height * 3);
  averageBlocks(image.data, 3, image.width, image.height, factorX, factorY, data, 0);
  return { data, width, height };
}

function averageBlocks(pixels, channels, width, height, factorX, factorY, out, outStart) {
  let at = outStart;
  for (let top = 0; top < height; top += factorY) {
    const rows = Math.min(factorY, height - top);
    for (let left = 0; left < width; left += factorX) {
      const columns = Math.min(factorX, width - left);
      const count = rows * columns;
      if (count === 1) {
        const from = (top * width + left) * channels;
        out[at++] = pixels[from];
        out[at++] = pixels[from + 1];
        out[at++] = pixels[from + 2];
        continue;
      }
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let row = 0; row < rows; row++) {
        let from = ((top + row) * width + left) * channels;
        for (let column = 0; column < columns; column++, from += channels) {
          red += pixels[from];
          green += pixels[from + 1];
          blue += pixels[from + 2];
        }
      }
      const half = count >> 1;
      const multiplier = Math.floor(2 ** 24 / count); // whole, as Pillow's; products stay exact in a double
      out[at++] = Math.floor(((red + half) * multiplier) / 2 ** 24);
      out[at++] = Math.floor(((green + half) * multiplier) / 2 ** 24);
      out[at++] = Math.floor(((blue + half) * multiplier) / 2 ** 24);
    }
  }
}

/** Bilinear filter whose support grows when shrinking; `spanX` and `spanY` are how much of the image counts, pixels. */
function scale(image, wanted, spanX, spanY) {
  let { data, width, height } = image;
  if (wanted.width !== width || spanX !== width) {
    data = filterRows(data, width, height, filterTaps(width, spanX, wanted.width));
    width = wanted.width;
  }
  if (wanted.height !== height || spanY !== height) {
    data = filterColumns(data, width, filterTaps(height, spanY, wanted.height));
    height = wanted.height;
  }
  return { data, width, height };
}

/** For each pixel out: the first pixel in, how many, and their whole-number weights. */
function filterTaps(side, span, outSide) {
  const step = span / outSide;
  const support = Math.max(step, 1);
  const taps = [];
  for (let index = 0; index < outSide; index++) {
    const centre = (index + 0.5) * step;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(side, Math.trunc(centre + support + 0.5));
    const raw = [];
    for (let pixel = first; pixel < last; pixel++) {
      raw.push(Math.max(0, 1 - Math.abs((pixel - centre + 0.5) / support)));
    }
    const sum = raw.reduce((total, weight) => total + weight, 0) || 1;
    taps.push({ first, weights: Int32Array.from(raw, (weight) => Math.trunc(0.5 + (weight / sum) * 2 ** PRECISION_BITS)) });
  }
  return taps;
}

function filterRows(data, width, height, taps) {
  const out = new Uint8Array(taps.length * height * 3);
  let at = 0;
  for (let row = 0; row < height; row++) {
    for (const { first, weights } of taps) {
      at = weighted(data, (row * width + first) * 3, 3, weights, out, at);
    }
  }
  return out;
}

function filterColumns(data, width, taps) {
  const out = new Uint8Array(width * taps.length * 3);
  let at = 0;
  for (const { first, weights } of taps) {
    for (let column = 0; column < width; column++) {
      at = weighted(data, (first * width + column) * 3, width * 3, weights, out, at);
    }
  }
  return out;
}

function weighted(data, start, stride, weights, out, at) {
  const half = 2 ** (PRECISION_BITS - 1);
  let red = half;
  let green = half;
  let blue = half;
  let from = start;
  for (let tap = 0; tap < weights.length; tap++, from += stride) {
    const weight = weights[tap]; // sums stay below 2 ** 31, as in Pillow
    red += data[from] * weight;
    green += data[from + 1] * weight;
    blue += data[from + 2] * weight;
  }
  out[at] = Math.min(255, red >> PRECISION_BITS);
  out[at + 1] = Math.min(255, green >> PRECISION_BITS);
  out[at + 2] = Math.min(255, blue >> PRECISION_BITS);
  return at + 3;
}
