"""Questions that tests ask any page, as JavaScript: names, sizes for fingers, contrast."""

# What is shown or used and has no name to be read out.
NAMELESS = """
() => [...document.querySelectorAll("button, input, select, a, summary, dialog, progress, [role=img], [role=group]")]
  .filter((one) => {
    if (one.ariaLabel || one.textContent.trim() || one.labels?.length && one.labels[0].textContent.trim()) return false;
    const by = one.getAttribute("aria-labelledby");
    return !(by && document.getElementById(by));
  }).map((one) => one.outerHTML.slice(0, 200))
"""

# What a finger is to hit, and can hardly.
TOO_SMALL = """
() => [...document.querySelectorAll("button:not(.link), select, .choice span")]
  .filter((one) => one.offsetHeight && one.offsetHeight < 24).map((one) => one.outerHTML.slice(0, 200))
"""

# The lowest contrast of any text with the nearest colour behind it, by WCAG 2.
WORST_CONTRAST = """
() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  let worst = 21;
  for (const one of document.querySelectorAll("main *, header *, footer *")) {
    const has = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!has || one.closest("svg") || !one.offsetParent) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    worst = Math.min(worst, (a + 0.05) / (b + 0.05));
  }
  return worst;
}
"""
