(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("photographs-data").textContent);
  const photos = data.photographs;
  const byId = new Map(photos.map((photo) => [photo.id, photo]));
  const shown = photos.filter((photo) => photo.listed);
  const jaccardAt = data.figures.findIndex((figure) => figure.key === "jaccard");
  const shareAt = data.figures.findIndex((figure) => figure.key === "lesion_share");
  const NS = "http://www.w3.org/2000/svg";
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const draw = (name, attributes, ...children) => {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const showFigure = (figure, value) =>
    value === null ? "\u2014" : (figure.percent ? `${(100 * value).toFixed(1)} %` : value.toFixed(figure.digits));
  document.documentElement.classList.add("script");

  // Which outlines are seen: one choice for the whole page, in several places.
  const wipe = document.getElementById("wipe");
  const dialog = document.getElementById("large");
  const stage = dialog.querySelector(".stage");
  const choices = [...document.querySelectorAll(".outline-choice input")];
  const chooseOutlines = (value) => {
    document.body.dataset.outlines = value;
    for (const input of choices) input.checked = input.value === value;
    // Elsewhere on the page there is no wipe: both are seen there.
    if (value === "wipe") for (const input of choices) if (input.value === "both" && !dialog.contains(input)) input.checked = true;
    wipe.parentElement.hidden = value !== "wipe";
    stage.classList.toggle("wiping", value === "wipe");
    placeWipe();
  };
  for (const input of choices) input.addEventListener("change", () => chooseOutlines(input.value));

  // A photograph as a drawing: pixels, and both outlines as paths.
  const outline = (kind, path, scale) => draw("g", { class: `${kind}-outline`, ...(scale ? { transform: `scale(${scale})` } : {}) },
    draw("path", { class: "casing", d: path }), draw("path", { class: kind, d: path }));
  const describe = (photo) => `Photograph ${photo.id}: ${photo.truth ? "labelled border outlined" : "no labelled lesion"}, `
    + `prediction ${photo.pred ? "outlined" : "nothing found"}, Jaccard ${photo.figures[jaccardAt].toFixed(3)}`;
  const picture = (photo) => {
    if (!photo.image) return make("span", { class: "unreadable" }, "cannot be read");
    const [height, width] = photo.size;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": describe(photo) },
      draw("image", { href: `data:image/webp;base64,${photo.image}`, width, height }));
    if (photo.truth) svg.append(outline("truth", photo.truth, 1 / data.units));
    if (photo.pred) svg.append(outline("pred", photo.pred, 1 / data.units));
    return svg;
  };

  // The enlarged view.
  const name = document.getElementById("large-name");
  const place = document.getElementById("large-place");
  const facts = dialog.querySelector(".facts");
  const large = new Map([...document.querySelectorAll(".picture .open")].map((button) => [button.dataset.photo, button.querySelector("svg")]));
  let list = [], current = 0, clips = null, opener = null;

  const placeWipe = () => {
    const svg = stage.querySelector("svg");
    if (!svg) return;
    const wiping = document.body.dataset.outlines === "wipe";
    for (const [kind, side] of [["truth", "left"], ["pred", "right"]]) {
      const group = svg.querySelector(`.${kind}-outline`);
      if (group) wiping ? group.parentElement.setAttribute("clip-path", `url(#clip-${side})`) : group.parentElement.removeAttribute("clip-path");
    }
    if (!clips) return;
    const x = clips.width * wipe.value / 100;
    clips.left.setAttribute("width", x);
    clips.right.setAttribute("x", x);
    clips.right.setAttribute("width", Math.max(clips.width - x, 0));
    clips.edge.setAttribute("d", wiping ? `M${x} 0V${clips.height}` : "");
  };
  const prepareWipe = (svg) => {
    const { width, height } = svg.viewBox.baseVal;
    const rectangle = () => draw("rect", { x: 0, y: 0, width, height });
    clips = { width, height, left: rectangle(), right: rectangle(), edge: draw("path", { class: "edge" }) };
    for (const group of svg.querySelectorAll(".truth-outline, .pred-outline")) {
      const holder = draw("g", {});  // a clip in the photograph's own frame, whatever the outline's is
      group.replaceWith(holder);
      holder.append(group);
    }
    svg.append(draw("clipPath", { id: "clip-left" }, clips.left), draw("clipPath", { id: "clip-right" }, clips.right), clips.edge);
  };
  const addFact = (title, text) => facts.append(make("dt", {}, title), make("dd", {}, text));
  const show = (index) => {
    current = (index + list.length) % list.length;
    const photo = byId.get(list[current]);
    const known = large.get(photo.id);
    const drawing = known ? known.cloneNode(true) : picture(photo);
    stage.replaceChildren(drawing);
    clips = null;
    if (drawing.tagName === "svg") prepareWipe(drawing);
    placeWipe();
    name.textContent = photo.id;
    place.textContent = `${current + 1} of ${list.length.toLocaleString("en")}`;
    facts.replaceChildren();
    data.figures.forEach((figure, at) => addFact(figure.title, showFigure(figure, photo.figures[at])));
    facts.append(make("div", { class: "gap", role: "presentation" }));
    for (const [title, text] of photo.facts) addFact(title, text);
    data.traits.forEach((trait, at) => { if (photo.traits[at] >= 0) addFact(trait.title, trait.values[photo.traits[at]]); });
    if (!dialog.open) { dialog.showModal(); name.focus(); }
  };
  const open = (ids, id, from) => {
    list = ids;
    opener = from || document.activeElement;
    show(Math.max(list.indexOf(id), 0));
  };
  dialog.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (event.target === dialog || button?.hasAttribute("data-close")) dialog.close();
    else if (button?.dataset.step) show(current + Number(button.dataset.step));
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const modes = ["both", "truth", "pred", "none", "wipe"];
    if (modes[Number(event.key) - 1]) chooseOutlines(modes[Number(event.key) - 1]);
    if (event.target.tagName === "INPUT") return;  // there the arrows have a meaning of their own
    if (event.key === "ArrowLeft") show(current - 1);
    if (event.key === "ArrowRight") show(current + 1);
  });
  dialog.addEventListener("close", () => {
    stage.replaceChildren();
    if (document.body.dataset.outlines === "wipe") chooseOutlines("both");
    opener?.focus();
  });
  wipe.addEventListener("input", placeWipe);
  const drag = (event) => {
    const svg = stage.querySelector("svg");
    if (!svg || document.body.dataset.outlines !== "wipe" || !event.buttons) return;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    wipe.value = 100 * at.x / clips.width;
    placeWipe();
  };
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);

  for (const gallery of document.querySelectorAll(".gallery")) {
    const buttons = [...gallery.querySelectorAll(".open")];
    const ids = buttons.map((button) => button.dataset.photo);
    for (const button of buttons) button.addEventListener("click", () => open(ids, button.dataset.photo, button));
  }

  // All photographs: only the rows near the window are in the page.
  const form = document.getElementById("filters");
  const tally = document.getElementById("tally");
  const grid = document.getElementById("grid");
  const rows = new Map();
  const GAP = 10, WORDS = 32;  // pixels between tiles, and of the words of one
  const shapes = shown.map((photo) => photo.size[0] / photo.size[1]).sort((a, b) => a - b);
  const shape = Math.min(Math.max(shapes[shapes.length >> 1] ?? 0.75, 0.6), 1);
  let fitting = [], columns = 1, thumb = 0, height = 0;

  const tile = (photo, at) => {
    const jaccard = photo.figures[jaccardAt];
    const low = jaccard < data.jaccard_thresh ? " failed" : "";
    const bar = make("i", {});
    bar.style.width = `${100 * jaccard}%`;
    const button = make("button", { type: "button", "data-photo": photo.id, "aria-label": `Enlarge ${describe(photo)}` },
      picture(photo), make("span", { class: `meter${low}`, "aria-hidden": "true" }, bar),
      make("span", { class: "words" }, make("b", { class: low.trim() }, jaccard.toFixed(3)), make("span", {}, photo.id)));
    return make("div", { class: "tile", role: "listitem", "aria-posinset": at + 1, "aria-setsize": fitting.length }, button);
  };
  const render = () => {
    const top = grid.getBoundingClientRect().top;
    const last = Math.ceil(fitting.length / columns) - 1;
    const from = Math.max(Math.floor((-top - innerHeight * 0.6) / height), 0);
    const to = Math.min(Math.floor((-top + innerHeight * 1.6) / height), last);
    for (const [at, row] of rows) {
      // A row that holds the focus stays, or the keyboard would lose its place.
      if ((at < from || at > to) && !row.contains(document.activeElement)) { row.remove(); rows.delete(at); }
    }
    for (let at = from; at <= to; at++) {
      if (rows.has(at)) continue;
      const row = make("div", { class: "grid-row", role: "presentation" });
      row.style.top = `${at * height}px`;
      row.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
      const start = at * columns;
      row.append(...fitting.slice(start, start + columns).map((photo, index) => tile(photo, start + index)));
      rows.set(at, row);
      const after = [...rows.keys()].filter((key) => key > at).sort((a, b) => a - b)[0];
      grid.insertBefore(row, after === undefined ? null : rows.get(after));
    }
  };
  const layOut = () => {
    const width = grid.clientWidth;
    columns = Math.max(Math.floor((width + GAP) / (132 + GAP)), 2);
    thumb = Math.round(shape * (width - GAP * (columns - 1)) / columns);
    height = thumb + WORDS + GAP;
    grid.style.setProperty("--thumb", `${thumb}px`);
    grid.style.height = `${Math.ceil(fitting.length / columns) * height}px`;
    for (const row of rows.values()) row.remove();
    rows.clear();
    render();
  };
  const orders = {
    worst: (a, b) => a.figures[jaccardAt] - b.figures[jaccardAt],
    best: (a, b) => b.figures[jaccardAt] - a.figures[jaccardAt],
    small: (a, b) => a.figures[shareAt] - b.figures[shareAt],
    large: (a, b) => b.figures[shareAt] - a.figures[shareAt],
    id: (a, b) => a.id.localeCompare(b.id, "en", { numeric: true }),
  };
  const apply = () => {
    const chosen = new FormData(form);
    const words = String(chosen.get("text")).trim().toLowerCase();
    const low = chosen.get("low") === "" ? 0 : Number(chosen.get("low"));
    const high = chosen.get("high") === "" ? 1 : Number(chosen.get("high"));
    const wanted = data.traits.map((trait) => chosen.get(trait.key));
    fitting = shown.filter((photo) => {
      const jaccard = photo.figures[jaccardAt];
      return jaccard >= low && (jaccard < high || high >= 1) && (!words || photo.id.toLowerCase().includes(words))
        && wanted.every((value, at) => !value || photo.traits[at] === Number(value));
    }).sort(orders[chosen.get("order")]);
    const mean = fitting.reduce((sum, photo) => sum + photo.figures[jaccardAt], 0) / fitting.length;
    tally.textContent = `${fitting.length.toLocaleString("en")} of ${shown.length.toLocaleString("en")} ${shown.length === 1 ? "photograph" : "photographs"}`
      + (fitting.length >= data.min_count ? `, mean Jaccard ${mean.toFixed(3)}` : "");
    layOut();
  };
  const showFiltered = (settings) => {
    form.reset();
    for (const [key, value] of Object.entries(settings)) form.elements[key].value = value;
    chooseOutlines(document.body.dataset.outlines);
    apply();
    document.getElementById("all").scrollIntoView();
    form.elements.text.focus({ preventScroll: true });
  };
  let waiting = 0, asked = false;
  form.addEventListener("input", (event) => {
    if (event.target.closest(".outline-choice")) return;
    clearTimeout(waiting);
    waiting = setTimeout(apply, 100);
  });
  form.addEventListener("reset", () => setTimeout(() => { chooseOutlines(document.body.dataset.outlines); apply(); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) open(fitting.map((photo) => photo.id), button.dataset.photo, button);
  });
  addEventListener("scroll", () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; render(); });
  }, { passive: true });
  let lastWidth = 0;
  new ResizeObserver(() => {
    if (grid.clientWidth === lastWidth) return;
    lastWidth = grid.clientWidth;
    layOut();
  }).observe(grid);
  const showGroup = (key, value) => {
    const trait = data.traits.find((one) => one.key === key);
    const at = trait ? trait.keys.indexOf(value) : -1;
    if (at >= 0) showFiltered({ [key]: String(at) });
  };
  for (const button of document.querySelectorAll(".link[data-trait]")) {
    button.addEventListener("click", () => showGroup(button.dataset.trait, button.dataset.value));
  }

  // Plots lead to photographs: by the pointer, and by the keyboard where a plot has a point for each photograph.
  const onDrawn = (id, action) => {
    const plot = document.getElementById(id);
    if (!plot) return;
    if (plot.data) action(plot);
    else plot.addEventListener("drawn", () => action(plot), { once: true });
  };
  onDrawn("chart-jaccard", (plot) => {
    plot.classList.add("pointing");
    plot.on("plotly_click", ({ points: [point] }) => {
      const [low, high] = String(point.customdata).split(" to ");
      showFiltered({ low: Number(low), high: Number(high) });
    });
  });
  onDrawn("chart-subgroups", (plot) => {
    plot.classList.add("pointing");
    plot.on("plotly_click", ({ points: [point] }) => { if (point.customdata) showGroup(point.customdata[0], point.customdata[1]); });
  });
  onDrawn("chart-lesion-size", (plot) => {
    const ids = plot.data.flatMap((trace) => trace.customdata || []).filter((id) => byId.has(id));
    const order = ids.slice().sort((a, b) => byId.get(a).figures[shareAt] - byId.get(b).figures[shareAt]);
    const traceOf = new Map(plot.data.flatMap((trace, curve) => (trace.customdata || []).map((id, number) => [id, { curveNumber: curve, pointNumber: number }])));
    plot.classList.add("pointing");
    plot.on("plotly_click", ({ points: [point] }) => { if (byId.has(point.customdata)) open(order, point.customdata, plot); });
    const status = make("p", { class: "plot-status", role: "status" });
    plot.after(status);
    plot.tabIndex = 0;
    plot.setAttribute("role", "application");
    plot.setAttribute("aria-label", `${plot.getAttribute("aria-label")} Left and right arrow keys go from photograph to photograph, Enter opens it.`);
    let at = -1;
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 25, PageUp: -25 }[event.key];
      if (step) {
        at = at < 0 ? 0 : Math.min(Math.max(at + step, 0), order.length - 1);
        const photo = byId.get(order[at]);
        Plotly.Fx.hover(plot, [traceOf.get(order[at])]);
        status.textContent = `${photo.id}: Jaccard ${photo.figures[jaccardAt].toFixed(3)}, lesion ${showFigure(data.figures[shareAt], photo.figures[shareAt])} of the photograph`;
        event.preventDefault();
      }
      if (event.key === "Enter" && at >= 0) { open(order, order[at], plot); event.preventDefault(); }
    });
    plot.addEventListener("blur", () => { Plotly.Fx.unhover(plot); });
  });

  chooseOutlines("both");
  apply();
})();
