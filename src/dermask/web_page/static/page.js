// The page itself: takes photographs, hands them to the worker one at a time, shows and saves what comes back.
// A classic script, so that it can tell why nothing else works where the page is opened from a file.
"use strict";

const site = JSON.parse(document.getElementById("site").textContent);
const el = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const photographs = new Map(); // by key: {key, id, file, card, state, result}
let lastKey = 0;
let engine;
let isReady = false;
let isBusy = false;

async function start() {
  showScore();
  for (const name of ["score", "rule", "show-outlines", "show-boxes", "show-labels"]) el(name).addEventListener("input", showAll);
  el("files").addEventListener("change", () => {
    add(el("files").files);
    el("files").value = ""; // so that the same file can be chosen again
  });
  takeDrops();
  el("save-masks").addEventListener("click", saveMasks);
  el("save-coco").addEventListener("click", saveCoco);
  el("save-csv").addEventListener("click", saveCsv);
  el("remove-all").addEventListener("click", () => [...photographs.keys()].forEach(remove));
  const missing = whatIsMissing();
  if (missing) return stop(missing);
  try {
    engine = makeEngine();
    await engine.do({ kind: "open", settings: site });
  } catch (problem) {
    return stop(problem.message);
  }
  isReady = true;
  await next();
}

function whatIsMissing() {
  if (location.protocol === "file:") {
    return "A browser only runs this page from a server, also one on this computer: python -m http.server -d FOLDER, then open http://localhost:8000";
  }
  if (typeof WebAssembly !== "object") return "This browser does not run WebAssembly, or it is switched off; try another one.";
  const isOld = typeof OffscreenCanvas !== "function" || typeof CompressionStream !== "function" || !window.createImageBitmap;
  return isOld ? "This browser is too old for this page; use Chrome, Edge or Firefox from the middle of 2023 on, or Safari from 16.4 on." : "";
}

/** Nothing will work: say why, once. */
function stop(problem) {
  document.body.dataset.state = "stopped";
  el("work").hidden = true;
  el("problem").textContent = problem;
  el("problem").hidden = false;
  el("files").disabled = true;
  for (const photo of photographs.values()) fail(photo, "was not opened");
  showTally();
}

function tell(text, done, total) {
  if (el("status").textContent !== text) el("status").textContent = text;
  const bar = el("progress");
  bar.hidden = text === "Ready";
  if (total) [bar.max, bar.value] = [total, done];
  else bar.removeAttribute("value");
}

/** The worker as promises. It starts from a blob, since then this page's policy is its policy too. */
function makeEngine() {
  const waiting = new Map();
  const source = `import ${JSON.stringify(new URL("worker.js", document.baseURI).href)};`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module" });
  let count = 0;
  worker.onmessage = ({ data }) => {
    const job = waiting.get(data.id);
    if (data.note) return job.note(data.note, data.done, data.total);
    waiting.delete(data.id);
    if (data.problem) job.reject(new Error(data.problem));
    else job.resolve(data.result);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    const problem = event.message || "a file of this page cannot be loaded; make the folder again with dermask web-page";
    for (const job of waiting.values()) job.reject(new Error(problem));
    waiting.clear();
  };
  return {
    do: (job, note = tell) =>
      new Promise((resolve, reject) => {
        waiting.set(++count, { resolve, reject, note });
        worker.postMessage({ id: count, ...job });
      }),
  };
}

// Photographs in and out

function takeDrops() {
  let depth = 0; // entering a child is told before leaving its parent
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragged", depth > 0);
  };
  addEventListener("dragenter", () => mark(1));
  addEventListener("dragleave", () => mark(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(-depth);
    if (!el("files").disabled) add(event.dataTransfer.files);
  });
}

function add(files) {
  for (const file of files) {
    const card = el("card").content.firstElementChild.cloneNode(true);
    const photo = { key: ++lastKey, id: freeId(file.name), file, card, state: "waiting", result: null };
    photographs.set(photo.key, photo);
    card.querySelector("h3").textContent = photo.id;
    card.querySelector(".frame").append(paragraph("Waiting"));
    card.setAttribute("aria-label", photo.id);
    for (const button of card.querySelectorAll("button")) {
      button.setAttribute("aria-label", `${button.textContent} of ${photo.id}`);
      button.addEventListener("click", () => act(photo, button));
    }
    el("photographs").append(card);
    show(photo);
  }
  showTally();
  next();
}

/** The file's name without its ending, with a number where another photograph has it. */
function freeId(name) {
  const stem = name.replace(/\.[^.]+$/, "") || name;
  const taken = new Set([...photographs.values()].map((photo) => photo.id));
  let id = stem;
  for (let number = 2; taken.has(id); number++) id = `${stem}_${number}`;
  return id;
}

async function next() {
  if (isBusy || !isReady) return;
  isBusy = true;
  document.body.dataset.state = "working";
  for (let photo = firstWaiting(); photo; photo = firstWaiting()) await outline(photo);
  isBusy = false;
  rest();
}

/** Nothing is being done, and the page can be asked for anything. */
function rest() {
  tell("Ready");
  document.body.dataset.state = "ready";
}

const firstWaiting = () => [...photographs.values()].find((photo) => photo.state === "waiting");

async function outline(photo) {
  photo.state = "working";
  photo.card.querySelector(".frame p").textContent = "Outlining";
  const finished = [...photographs.values()].filter(({ state }) => state === "done" || state === "failed").length;
  tell(`Outlining photograph ${finished + 1} of ${photographs.size}`, finished, photographs.size);
  try {
    photo.result = await engine.do({ kind: "photograph", key: photo.key, file: photo.file }, () => {});
    photo.state = "done";
  } catch (problem) {
    fail(photo, problem.message);
  }
  if (photographs.has(photo.key)) {
    if (photo.state === "done") draw(photo);
    show(photo);
    showTally();
  } else engine.do({ kind: "forget", key: photo.key }); // it was removed meanwhile
}

function fail(photo, problem) {
  photo.state = "failed";
  const line = paragraph(`${photo.file.name}: ${problem}`);
  line.className = "problem";
  line.setAttribute("role", "alert");
  photo.card.querySelector(".frame").replaceChildren(line);
}

function remove(key) {
  const photo = photographs.get(key);
  photographs.delete(key);
  photo.card.remove();
  if (photo.state === "waiting") photo.state = "removed";
  if (photo.previewUrl) URL.revokeObjectURL(photo.previewUrl);
  if (photo.state === "done") engine.do({ kind: "forget", key });
  showTally();
}

async function act(photo, button) {
  if (button.dataset.act === "remove") {
    const beside = photo.card.nextElementSibling ?? photo.card.previousElementSibling;
    remove(photo.key);
    (beside?.querySelector("h3") ?? el("files")).focus(); // the focus must not fall back to the page's top
    return;
  }
  const job = { key: photo.key, rule: el("rule").value, thresh: threshold() };
  if (button.dataset.act === "mask") await save(button, { kind: "mask", ...job }, `${photo.id}_segmentation.png`);
  else await save(button, { kind: "overlay", ...job, file: photo.file, shown: shown() }, `${photo.id}_overlay.png`);
}

// What is shown

const threshold = () => Number(el("score").value);
const shown = () => ({ outlines: el("show-outlines").checked, boxes: el("show-boxes").checked, labels: el("show-labels").checked });
const kept = (photo) => photo.result.lesions.filter(({ score }) => score >= threshold());

function paragraph(text) {
  const line = document.createElement("p");
  line.textContent = text;
  return line;
}

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Photograph and lesions as one drawing; what is shown of it changes with classes and the slider alone. */
function draw(photo) {
  const { width, height, lesions, preview } = photo.result;
  photo.previewUrl = URL.createObjectURL(preview);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  picture.append(svg("image", { href: photo.previewUrl, width, height }));
  for (const lesion of [...lesions].reverse()) picture.append(lesionDrawing(lesion, width, height)); // the best on top
  photo.card.querySelector(".frame").replaceChildren(picture);
}

function lesionDrawing({ box: [x1, y1, x2, y2], score, label, name, path }, width, height) {
  const size = Math.max(width, height) / 30;
  const text = svg("text", { "font-size": size }, `${name} ${score.toFixed(2)}`);
  const plate = { width: size * (0.56 * text.textContent.length + 0.9), height: 1.5 * size };
  const x = Math.max(0, Math.min(x1, width - plate.width));
  const y = y1 - plate.height - size / 4 >= 0 ? y1 - plate.height - size / 4 : Math.min(y2 + size / 4, height - plate.height);
  text.setAttribute("x", x + 0.6 * size);
  text.setAttribute("y", y + 1.1 * size);
  const group = svg(
    "g",
    { class: "lesion", "data-score": score },
    svg("rect", { class: "box", x: x1, y: y1, width: x2 - x1, height: y2 - y1 }),
    svg("path", { class: "casing", d: path }),
    svg("path", { class: "line", d: path }),
    svg("g", { class: "label" }, svg("rect", { class: "plate", x, y, ...plate }), svg("rect", { class: "stripe", x, y, width: 0.3 * size, height: plate.height }), text),
  );
  group.style.setProperty("--colour", site.colours[(label - 1) % site.colours.length]);
  return group;
}

function showScore() {
  el("score-said").textContent = threshold().toFixed(2);
  el("score").setAttribute("aria-valuetext", `${threshold().toFixed(2)} and above`);
}

function showAll() {
  showScore();
  for (const [name, is] of Object.entries(shown())) document.body.classList.toggle(`no-${name}`, !is);
  for (const photo of photographs.values()) show(photo);
  showTally();
}

/** Everything of a card that follows the slider. */
function show(photo) {
  const { card, state, result } = photo;
  card.dataset.state = state;
  for (const button of card.querySelectorAll("[data-act=mask], [data-act=overlay]")) button.disabled = state !== "done";
  if (state !== "done") return;
  for (const group of card.querySelectorAll(".lesion")) group.toggleAttribute("hidden", Number(group.dataset.score) < threshold());
  const lesions = kept(photo);
  const { width, height, milliseconds } = result;
  const seconds = (milliseconds.prepare + milliseconds.network + milliseconds.rest) / 1000;
  card.querySelector(".said").textContent = `${width} x ${height} pixels, outlined in ${seconds.toFixed(2)} s`;
  const items = lesions.map((lesion) => lesionItem(lesion, width * height));
  const none = document.createElement("li");
  none.textContent = "Nothing found from this score on";
  card.querySelector(".lesions").replaceChildren(...(items.length ? items : [none]));
  card.querySelector("svg").setAttribute("aria-label", `${photo.id}: ${items.map((item) => item.textContent).join("; ") || none.textContent}`);
}

function lesionItem({ label, name, score, area }, pixels) {
  const [item, dot] = [document.createElement("li"), document.createElement("span")];
  dot.className = "dot";
  dot.style.background = site.colours[(label - 1) % site.colours.length];
  item.append(dot, `${name}, score ${score.toFixed(2)}, ${((100 * area) / pixels).toFixed(1)} % of the photograph`);
  return item;
}

function showTally() {
  const all = [...photographs.values()];
  const done = all.filter(({ state }) => state === "done");
  const failed = all.filter(({ state }) => state === "failed").length;
  const count = done.reduce((sum, photo) => sum + kept(photo).length, 0);
  const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  const still = all.length - done.length - failed;
  el("tally").textContent = `${plural(count, "lesion")} in ${plural(done.length, "photograph")}${still ? `, ${still} to do` : ""}${failed ? `, ${failed} cannot be opened` : ""}`;
  el("results").hidden = !all.length;
  document.body.classList.toggle("has-photographs", all.length > 0);
  for (const name of ["save-masks", "save-coco", "save-csv"]) el(name).disabled = !done.length || still > 0;
}

// What is saved

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // a browser may still be asking where to put it
}

async function save(button, job, name) {
  button.disabled = true;
  try {
    download(await engine.do(job, isBusy ? () => {} : tell), name);
  } catch (problem) {
    el("problem").textContent = `${name}: ${problem.message}`;
    el("problem").hidden = false;
  }
  button.disabled = false;
  if (!isBusy) rest();
}

const donePhotographs = () => [...photographs.values()].filter(({ state }) => state === "done");

function saveMasks() {
  const keys = donePhotographs().map(({ key, id }) => ({ key, name: `${id}_segmentation.png` }));
  return save(el("save-masks"), { kind: "masks", keys, rule: el("rule").value, thresh: threshold() }, "masks.zip");
}

const rounded = (value, digits) => Number(value.toFixed(digits));

/** Everything the model gave, whatever the slider says: judging wants all. As dermask predict writes it. */
function saveCoco() {
  const rows = donePhotographs().flatMap(({ id, result }) =>
    result.lesions.map(({ box: [x1, y1, x2, y2], score, label, counts }) => ({
      image_id: id,
      category_id: label,
      bbox: [x1, y1, x2 - x1, y2 - y1].map((value) => rounded(value, 2)),
      score: rounded(score, 5),
      segmentation: { size: [result.height, result.width], counts },
    })),
  );
  const text = `[${rows.map((row) => `\n${JSON.stringify(row)}`).join(",")}\n]\n`;
  download(new Blob([text], { type: "application/json" }), "coco_results.json");
}

/** One row per lesion from the slider's score on, with the columns of dermask predict. */
function saveCsv() {
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = donePhotographs().flatMap((photo) =>
    kept(photo).map(({ box, score, name, area }, index) => {
      const { width, height } = photo.result;
      const share = rounded(area / (width * height), 6);
      const corners = box.map((value) => rounded(value, 2));
      return [quoted(photo.id), quoted(photo.file.name), index + 1, quoted(name), rounded(score, 5), ...corners, area, share, width, height];
    }),
  );
  const head = "photograph,file,lesion,class,score,x1,y1,x2,y2,area_px,area_share,width,height";
  download(new Blob([[head, ...rows.map((row) => row.join(","))].join("\n"), "\n"], { type: "text/csv" }), "lesions.csv");
}

start();
