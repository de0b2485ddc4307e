// Masks of detections: pasted into the photograph, as COCO's run lengths, and as smooth outlines.
//
// A detection's mask is `probs`, Float32Array of cells * cells probabilities in the frame of its box (xyxy, pixels of
// the photograph). Sources: dermask.masks (paste_masks, bitmask_to_rle) and dermask.inference.overlay (mask_rings).

const CONTOUR_STEPS = 4; // per mask cell: the border of a bilinearly sampled mask is curved within a cell

/** Which pixels of one axis a mask reaches, and between which cells of the zero-bordered mask each lies. */
function exactTaps(start, stop, cells, side) {
  const cell = (stop - start) / cells;
  const first = Math.max(Math.ceil(start - cell / 2 - 0.5), 0); // the zero border is half a cell outside the box
  const last = Math.min(Math.floor(stop + cell / 2 - 0.5), side - 1);
  const count = Math.max(0, last - first + 1);
  const low = new Int32Array(count);
  const weight = new Float64Array(count);
  for (let index = 0; index < count; index++) {
    const position = Math.min(Math.max((first + index + 0.5 - start) / cell + 0.5, 0), cells + 1);
    low[index] = Math.min(Math.trunc(position), cells);
    weight[index] = position - low[index];
  }
  return { first, low, weight };
}

function padded(probs, cells) {
  const side = cells + 2;
  const out = new Float64Array(side * side);
  for (let row = 0; row < cells; row++) {
    for (let column = 0; column < cells; column++) {
      out[(row + 1) * side + column + 1] = probs[row * cells + column];
    }
  }
  return out;
}

/** Calls `visit(x, firstY, inside)` for each column that the mask reaches; `inside` is used again for the next one. */
function visitColumns(box, probs, cells, width, height, thresh, visit) {
  if (!(box[2] > box[0] && box[3] > box[1])) return;
  const columns = exactTaps(box[0], box[2], cells, width);
  const rows = exactTaps(box[1], box[3], cells, height);
  const grid = padded(probs, cells);
  const side = cells + 2;
  const across = new Float64Array(side);
  const inside = new Uint8Array(rows.low.length);
  for (let index = 0; index < columns.low.length; index++) {
    const [low, weight] = [columns.low[index], columns.weight[index]];
    for (let row = 0; row < side; row++) {
      across[row] = grid[row * side + low] * (1 - weight) + grid[row * side + low + 1] * weight;
    }
    for (let row = 0; row < inside.length; row++) {
      const at = rows.low[row];
      inside[row] = across[at] * (1 - rows.weight[row]) + across[at + 1] * rows.weight[row] >= thresh ? 1 : 0;
    }
    visit(columns.first + index, rows.first, inside);
  }
}

/** Set the mask's pixels in `canvas`, Uint8Array of width * height, to 255. */
export function pasteMask(canvas, box, probs, cells, width, height, thresh) {
  visitColumns(box, probs, cells, width, height, thresh, (x, top, inside) => {
    for (let row = 0, at = top * width + x; row < inside.length; row++, at += width) {
      if (inside[row]) canvas[at] = 255;
    }
  });
}

/** The mask at the photograph's size: `counts` as COCO's compressed run lengths, and its `area` in pixels. */
export function maskRuns(box, probs, cells, width, height, thresh) {
  const runs = [];
  let covered = 0; // pixels that the runs hold already
  let begin = 0; // of the run of mask pixels that is open, column by column through the photograph
  let end = 0;
  let area = 0;
  const close = () => {
    if (begin === end) return;
    runs.push(begin - covered, end - begin);
    covered = end;
    area += end - begin;
  };
  visitColumns(box, probs, cells, width, height, thresh, (x, top, inside) => {
    for (let row = 0, at = x * height + top; row < inside.length; row++, at++) {
      if (!inside[row]) continue;
      if (at !== end) {
        close();
        begin = at;
      }
      end = at + 1;
    }
  });
  close();
  if (covered < width * height) runs.push(width * height - covered);
  return { counts: encodeRuns(runs), area };
}

/** COCO's string: 5 bits a character, from 48, low bits first; from the fourth run on as the difference to two before. */
function encodeRuns(runs) {
  let text = "";
  runs.forEach((run, index) => {
    let value = index > 2 ? run - runs[index - 2] : run;
    for (let more = true; more; ) {
      let digit = value & 31;
      value >>= 5;
      more = digit & 16 ? value !== -1 : value !== 0;
      if (more) digit |= 32;
      text += String.fromCharCode(digit + 48);
    }
  });
  return text;
}

/** The border of a mask as closed rings of [x, y], outer borders and holes, pixels of the photograph. */
export function maskRings(box, probs, cells, thresh) {
  const { values, side } = refined(probs, cells);
  const next = crossings(values, side, thresh);
  const position = (steps, start, stop) => start + ((steps / CONTOUR_STEPS - 0.5) / cells) * (stop - start);
  const rings = [];
  while (next.size) {
    const ring = [];
    let [edge] = next.keys();
    while (next.has(edge)) {
      const after = next.get(edge);
      next.delete(edge);
      const { column, row } = crossingPoint(edge, values, side, thresh);
      ring.push([position(column, box[0], box[2]), position(row, box[1], box[3])]);
      edge = after;
    }
    rings.push(ring);
  }
  return rings;
}

function refined(probs, cells) {
  const grid = padded(probs, cells);
  const [width, side] = [cells + 2, (cells + 1) * CONTOUR_STEPS + 1];
  const values = new Float64Array(side * side);
  for (let row = 0; row < side; row++) {
    const top = Math.min(Math.trunc(row / CONTOUR_STEPS), cells);
    const down = row / CONTOUR_STEPS - top;
    for (let column = 0; column < side; column++) {
      const left = Math.min(Math.trunc(column / CONTOUR_STEPS), cells);
      const right = column / CONTOUR_STEPS - left;
      const at = top * width + left;
      values[row * side + column] =
        (grid[at] * (1 - right) + grid[at + 1] * right) * (1 - down) +
        (grid[at + width] * (1 - right) + grid[at + width + 1] * right) * down;
    }
  }
  return { values, side };
}

// Marching squares. Corners of a square count 8, 4, 2, 1 from the upper left on, clockwise; segments lead from one edge
// to another with the inside on the right. Where opposite corners are inside, the mean of all four decides.
const [TOP, RIGHT, BOTTOM, LEFT] = [0, 1, 2, 3];
const SEGMENTS = [
  [], [[LEFT, BOTTOM]], [[BOTTOM, RIGHT]], [[LEFT, RIGHT]],
  [[RIGHT, TOP]], [[LEFT, BOTTOM], [RIGHT, TOP]], [[BOTTOM, TOP]], [[LEFT, TOP]],
  [[TOP, LEFT]], [[TOP, BOTTOM]], [[TOP, LEFT], [BOTTOM, RIGHT]], [[TOP, RIGHT]],
  [[RIGHT, LEFT]], [[RIGHT, BOTTOM]], [[BOTTOM, LEFT]], [],
];
const JOINED = { 5: [[LEFT, TOP], [RIGHT, BOTTOM]], 10: [[TOP, RIGHT], [BOTTOM, LEFT]] };

/** From each crossed edge to the next; an edge's number is twice that of its upper left point, + 1 if it goes down. */
function crossings(values, side, thresh) {
  const next = new Map();
  for (let row = 0; row + 1 < side; row++) {
    for (let column = 0; column + 1 < side; column++) {
      const at = row * side + column;
      const corners = [values[at], values[at + 1], values[at + side + 1], values[at + side]];
      const kind = corners.reduce((bits, value) => bits * 2 + (value >= thresh ? 1 : 0), 0);
      if (kind === 0 || kind === 15) continue;
      const isJoined = kind in JOINED && corners.reduce((sum, value) => sum + value, 0) / 4 >= thresh;
      const edges = [2 * at, 2 * (at + 1) + 1, 2 * (at + side), 2 * at + 1];
      for (const [from, to] of isJoined ? JOINED[kind] : SEGMENTS[kind]) next.set(edges[from], edges[to]);
    }
  }
  return next;
}

function crossingPoint(edge, values, side, thresh) {
  const at = edge >> 1;
  const isDown = edge & 1;
  const [first, second] = [values[at], values[at + (isDown ? side : 1)]];
  const share = (thresh - first) / (second - first);
  const [column, row] = [at % side, Math.trunc(at / side)];
  return isDown ? { column, row: row + share } : { column: column + share, row };
}

/** Rings as the `d` of an SVG path, to a tenth of a pixel. */
export function ringsPath(rings) {
  const point = ([x, y]) => `${Math.round(x * 10) / 10} ${Math.round(y * 10) / 10}`;
  return rings.map((ring) => `M${ring.map(point).join("L")}Z`).join("");
}
