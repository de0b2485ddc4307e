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
  const plots = Object.keys(figures).map((key) => document.getElementById(key));
  const recolour = () => plots.forEach((plot) => Plotly.relayout(plot, themed()));
  plots.forEach((plot) => {
    const figure = figures[plot.id];
    Plotly.newPlot(plot, figure.data, { ...figure.layout, dragmode }, config).then(() => Plotly.relayout(plot, themed()));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  const resize = () => plots.forEach((plot) => Plotly.Plots.resize(plot));
  addEventListener("beforeprint", () => { recolour(); resize(); });
  addEventListener("afterprint", () => { recolour(); resize(); });
})();
