// The part that computes, beside the page so that the page stays quick: opens the model, then takes one job at a time.
//
// Jobs come as {id, kind, ...} and are answered by {id, result} or {id, problem}; on the way {id, note, done, total}.
// It is started by page.js from a blob, so that the page's policy holds here too: nothing can be sent anywhere.

import { greyPng, zipArchive } from "./files.js";
import { maskRings, maskRuns, pasteMask, ringsPath } from "./masks.js";
import { networkSize, paddedSide, prepare } from "./pixels.js";

const here = (name) => new URL(name, import.meta.url).href;
const AGAIN = "make the folder again with dermask web-page";
const PREVIEW_SIDE = 1280;
const JPEG_START = [0xff, 0xd8, 0xff];

/** What a person is told, instead of what an engine says. */
class Problem extends Error {}

let site; // model.json
let ort;
let session;
const found = new Map(); // by photograph: {size, detections}, from which masks and pictures are made when asked for

const jobs = { open, photograph, mask, masks, overlay, forget };
let last = Promise.resolve();
self.onmessage = ({ data }) => {
  last = last.then(() => work(data));
};

async function work({ id, kind, ...given }) {
  try {
    const result = await jobs[kind]({ ...given, tell: (note, done, total) => self.postMessage({ id, note, done, total }) });
    self.postMessage({ id, result });
  } catch (error) {
    const problem = error instanceof Problem ? error.message : `unexpected ${error?.name ?? "error"}: ${error?.message ?? error}`;
    self.postMessage({ id, problem });
  }
}

// Opening

async function open({ settings, tell }) {
  site = settings;
  const [engine, model] = [await fetchFile(site.runtime.wasm, site.runtime.wasm_bytes, "Engine", tell),
    await fetchFile(site.model.file, site.model.bytes, "Model", tell)];
  tell("Model starts");
  try {
    ort = await import(here(site.runtime.script));
  } catch {
    throw new Problem(`${site.runtime.script}: cannot be loaded; ${AGAIN}`);
  }
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1; // more would need a server that isolates the page
  ort.env.wasm.wasmBinary = engine.buffer;
  try {
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  } catch (error) {
    throw new Problem(`the model cannot be started (${shorten(error?.message ?? error)}); ${AGAIN}`);
  }
  await warmUp();
}

/** The first run takes twice as long as the others; nobody waits for it here, while photographs are being chosen. */
async function warmUp() {
  const side = Math.min(site.image.min_size, site.image.max_size);
  await detect({ data: new Uint8Array(side * side * 3), width: side, height: side });
}

async function fetchFile(name, size, what, tell) {
  let response;
  try {
    response = await fetch(here(name), { cache: "no-cache" });
  } catch {
    throw new Problem(`${name}: cannot be loaded; is the server still there?`);
  }
  if (!response.ok) throw new Problem(`${name}: not in this folder (${response.status}); ${AGAIN}`);
  const bytes = new Uint8Array(size);
  const reader = response.body.getReader();
  let done = 0;
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    if (done + step.value.length > size) throw new Problem(`${name}: is larger than the ${size} bytes expected; ${AGAIN}`);
    bytes.set(step.value, done);
    done += step.value.length;
    tell(`${what} loads`, done, size);
  }
  if (done !== size) throw new Problem(`${name}: has ${done} of ${size} bytes; load this page again, or ${AGAIN}`);
  return bytes;
}

// One photograph

async function photograph({ key, file, tell }) {
  const started = performance.now();
  const isJpeg = await beginsLike(file, JPEG_START);
  const bitmap = await decode(file);
  try {
    const { width, height } = bitmap;
    if (width * height > site.image.max_pixels) {
      throw new Problem(`has ${width} x ${height} pixels; shrink it to at most ${site.image.max_pixels / 1e6} million`);
    }
    const image = prepare(bitmap, isJpeg, networkSize(width, height, site.image), site.image.decode_margin);
    const prepared = performance.now();
    const outputs = await detect(image);
    const detected = performance.now();
    tell("Outlines are drawn");
    const detections = describe(outputs, image, width, height);
    found.set(key, { width, height, detections });
    return {
      width,
      height,
      lesions: detections.map((one) => outlined(one, width, height)),
      preview: await preview(bitmap),
      milliseconds: { prepare: prepared - started, network: detected - prepared, rest: performance.now() - detected },
    };
  } finally {
    bitmap.close();
  }
}

async function beginsLike(file, start) {
  const head = new Uint8Array(await file.slice(0, start.length).arrayBuffer());
  return start.every((byte, index) => head[index] === byte);
}

async function decode(file) {
  // Pixels as they are stored: dermask does not apply colour profiles either.
  const asStored = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
  try {
    return await createImageBitmap(file, { ...asStored, imageOrientation: "from-image" }).catch((error) => {
      if (error instanceof TypeError) return createImageBitmap(file, asStored); // older browsers: upright without the word
      throw error;
    });
  } catch {
    if (!file.size) throw new Problem("is empty (0 bytes); copy or export it again");
    throw new Problem("is not an image that this browser can open, or is damaged; convert it to JPEG or PNG");
  }
}

async function detect(image) {
  const [rows, columns] = [paddedSide(image.height, site.image), paddedSide(image.width, site.image)];
  const pixels = new Uint8Array(rows * columns * 3); // normalised inside the graph, which is told what is padding
  for (let row = 0; row < image.height; row++) {
    pixels.set(image.data.subarray(row * image.width * 3, (row + 1) * image.width * 3), row * columns * 3);
  }
  const sizes = BigInt64Array.of(BigInt(image.height), BigInt(image.width));
  try {
    return await session.run({
      images: new ort.Tensor("uint8", pixels, [1, rows, columns, 3]),
      sizes: new ort.Tensor("int64", sizes, [1, 2]),
    });
  } catch (error) {
    throw new Problem(`the model fails on it (${shorten(error?.message ?? error)})`);
  }
}

/** The graph's outputs as detections in pixels of the photograph, best first. */
function describe(outputs, image, width, height) {
  const cells = outputs.mask_probs.dims[1];
  const probs = outputs.mask_probs.data;
  const valid = outputs.valid.data;
  const count = valid.reduce((sum, flag) => sum + flag, 0); // the valid ones come first
  const [ratioX, ratioY] = [width / image.width, height / image.height];
  return Array.from({ length: count }, (_, index) => {
    const [x1, y1, x2, y2] = outputs.boxes.data.subarray(4 * index, 4 * index + 4);
    const clip = (value, most) => Math.min(Math.max(value, 0), most);
    return {
      box: [clip(x1 * ratioX, width), clip(y1 * ratioY, height), clip(x2 * ratioX, width), clip(y2 * ratioY, height)],
      score: outputs.scores.data[index],
      label: Number(outputs.labels.data[index]),
      probs: probs.slice(index * cells * cells, (index + 1) * cells * cells),
      cells,
    };
  });
}

/** What the page needs of a detection: all that is drawn or written as text. */
function outlined({ box, score, label, probs, cells }, width, height) {
  const { counts, area } = maskRuns(box, probs, cells, width, height, site.mask_thresh);
  const path = ringsPath(maskRings(box, probs, cells, site.mask_thresh));
  return { box, score, label, name: site.class_names[label - 1], counts, area, path };
}

async function preview(bitmap) {
  const { canvas } = drawn(bitmap, PREVIEW_SIDE);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.88 });
}

/** The photograph on a canvas whose longest side is at most `side`, reduced by halves so that nothing aliases. */
function drawn(bitmap, side) {
  const ratio = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * ratio)), Math.max(1, Math.round(bitmap.height * ratio)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return { canvas, context, ratio: canvas.width / bitmap.width };
}

function forget({ key }) {
  found.delete(key);
}

// What can be saved

/** The one mask of a photograph as dermask predict writes it: 0 or 255 at its size. */
async function mask({ key, rule, thresh }) {
  const { width, height, detections } = found.get(key);
  const chosen = rule === "primary" ? detections.slice(0, 1) : detections.filter(({ score }) => score >= thresh);
  const canvas = new Uint8Array(width * height);
  for (const { box, probs, cells } of chosen) pasteMask(canvas, box, probs, cells, width, height, site.mask_thresh);
  return greyPng(canvas, width, height);
}

async function masks({ keys, rule, thresh, tell }) {
  const entries = [];
  for (const [index, { key, name }] of keys.entries()) {
    tell("Masks are written", index, keys.length);
    entries.push([name, await mask({ key, rule, thresh })]);
  }
  return zipArchive(entries);
}

async function overlay({ key, file, thresh, shown }) {
  const bitmap = await decode(file);
  const { canvas, context, ratio } = drawn(bitmap, site.overlay_side);
  bitmap.close();
  const { width, height, detections } = found.get(key);
  const lines = detections.filter(({ score }) => score >= thresh).map((one) => outlined(one, width, height));
  const line = Math.max(1.4, Math.min(canvas.width, canvas.height) / 260);
  context.lineJoin = "round";
  for (const one of lines.reverse()) drawLesion(context, one, ratio, line, shown); // the best last, on top
  if (shown.labels) for (const one of lines) drawLabel(context, one, ratio, canvas);
  return canvas.convertToBlob({ type: "image/png" });
}

function drawLesion(context, { box, label, path }, ratio, line, shown) {
  const colour = colourOf(label);
  if (shown.boxes) {
    const [x1, y1, x2, y2] = box.map((value) => value * ratio);
    context.strokeStyle = colour;
    context.globalAlpha = 0.75;
    context.lineWidth = Math.max(1, 0.5 * line);
    context.setLineDash([4 * line, 4 * line]);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    context.setLineDash([]);
    context.globalAlpha = 1;
  }
  if (!shown.outlines) return;
  const scaled = new Path2D();
  scaled.addPath(new Path2D(path), new DOMMatrix().scale(ratio));
  for (const [width, style] of [[1.9 * line, "rgba(12, 16, 24, .75)"], [line, colour]]) {
    context.lineWidth = width;
    context.strokeStyle = style;
    context.stroke(scaled);
  }
}

function drawLabel(context, { box, label, name, score }, ratio, canvas) {
  const size = Math.max(11, Math.round(Math.min(canvas.width, canvas.height) / 32));
  const padding = Math.max(2, size / 4);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const text = `${name} ${score.toFixed(2)}`;
  const [width, height] = [context.measureText(text).width + 4.5 * padding, size + 2 * padding];
  const x = Math.max(0, Math.min(box[0] * ratio, canvas.width - width));
  const above = box[1] * ratio - height - padding;
  const y = Math.max(0, above >= 0 ? above : Math.min(box[3] * ratio + padding, canvas.height - height));
  context.fillStyle = "rgba(12, 16, 24, .85)";
  context.fillRect(x, y, width, height);
  context.fillStyle = colourOf(label);
  context.fillRect(x, y, 1.5 * padding, height);
  context.fillStyle = "#fff";
  context.fillText(text, x + 3 * padding, y + height / 2);
}

const colourOf = (label) => site.colours[(label - 1) % site.colours.length];

function shorten(text) {
  const line = String(text).replace(/\s+/g, " ");
  return line.length <= 160 ? line : `${line.slice(0, 156)} ...`;
}
