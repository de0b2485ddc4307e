(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures-data").textContent);
  const config = { responsive: true, displayModeBar: false };
  // With a finger, a drag scrolls the page; with a mouse it zooms, and a double click shows all again.
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";

  // Charts take the page's colours, so that they follow its light or dark setting and its print form.
  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    return { text: colour("--text"), muted: colour("--muted"), line: colour("--line"), surface: colour("--surface") };
  };
  const themed = () => {
    const { text, muted, line, surface } = colours();
    return {
      "font.color": text, "font.family": getComputedStyle(document.body).fontFamily, "font.size": 12,
      "xaxis.gridcolor": line, "yaxis.gridcolor": line, "xaxis.title.font.color": muted, "yaxis.title.font.color": muted,
      "hoverlabel.bgcolor": surface, "hoverlabel.bordercolor": line, "hoverlabel.font.color": text,
    };
  };
  // The same, as a layout has it: "xaxis.title.font.color" is a colour in a font in a title in an axis.
  const withTheme = (layout) => {
    const whole = structuredClone(layout);
    for (const [path, value] of Object.entries(themed())) {
      const names = path.split(".");
      const last = names.pop();
      names.reduce((part, name) => (part[name] ??= {}), whole)[last] = value;
    }
    return whole;
  };
  // On a phone, fewer numbers along an axis, and names of rows in the plot above their points, not beside it.
  const phone = matchMedia("(max-width: 34rem)");
  const fitted = (layout, data) => {
    if (!phone.matches) return layout;
    const { font, xaxis, yaxis } = layout;
    xaxis.tickangle = 0;
    if (xaxis.dtick) xaxis.dtick *= 2;
    else if (!xaxis.tickvals) xaxis.nticks = 5;
    const rows = yaxis.type === "category" ? data[0].y.map((name) => [name, name]) : yaxis.tickvals?.map((at, row) => [at, yaxis.ticktext[row]]);
    if (!rows) return layout;
    yaxis.showticklabels = false;
    layout.annotations = rows.map(([y, text]) => (
      { x: 0, xref: "paper", xanchor: "left", y, yanchor: "bottom", yshift: 4, text, font: { ...font, size: 11 }, showarrow: false }));
    return layout;
  };
  const layoutOf = (plot) => {
    const { data, layout } = figures[plot.id];
    return { ...fitted(withTheme(layout), data), dragmode };
  };

  // Plotly is megabytes of code: it waits as text until the page is there and can be used, and so do the charts. They
  // are drawn one at a time, those near the window first.
  const waiting = new Set(Object.keys(figures).map((key) => document.getElementById(key)));
  const plots = [];
  const loadPlotly = () => {
    if (window.Plotly) return;
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  };
  const draw = (plot) => {
    loadPlotly();
    waiting.delete(plot);
    Plotly.newPlot(plot, figures[plot.id].data, layoutOf(plot), config);
    plots.push(plot);
    plot.dispatchEvent(new Event("drawn"));
  };
  const distance = (plot) => {
    const { top, bottom } = plot.getBoundingClientRect();
    return Math.max(top - innerHeight, -bottom, 0);
  };
  const soon = (callback) => (window.requestIdleCallback ?? setTimeout)(callback, { timeout: 500 });
  const drawNext = () => {
    if (!waiting.size) return;
    draw([...waiting].reduce((nearest, plot) => (distance(plot) < distance(nearest) ? plot : nearest)));
    soon(drawNext);
  };
  addEventListener("load", () => soon(() => { loadPlotly(); soon(drawNext); }));

  const recolour = () => plots.forEach((plot) => {
    const theme = themed();
    plot.layout.annotations?.forEach((_, at) => { theme[`annotations[${at}].font.color`] = theme["font.color"]; });
    Plotly.relayout(plot, theme);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  phone.addEventListener("change", () => plots.forEach((plot) => Plotly.react(plot, figures[plot.id].data, layoutOf(plot), config)));
  // Plotly's own resize waits a moment, which a browser that is about to print does not.
  const resize = () => plots.forEach((plot) => Plotly.relayout(plot, { width: plot.clientWidth, height: plot.clientHeight }));
  const resizeFreely = () => plots.forEach((plot) => Plotly.relayout(plot, { autosize: true }));
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    waiting.forEach(draw);
    recolour();
    resize();
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    recolour();
    resizeFreely();
  });
})();
