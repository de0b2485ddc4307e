(() => {
  "use strict";
  const form = document.getElementById("filters");
  const tally = document.getElementById("tally");
  const kinds = [...document.querySelectorAll(".kind")].map((section) => ({
    section,
    kind: section.dataset.kind,
    more: section.querySelector(".more"),
    details: section.querySelector("details"),
    limit: FIRST,
    opened: false,
    items: [...section.querySelectorAll(".finding, .row")].map((element) => ({
      element,
      isCard: element.classList.contains("finding"),
      severity: element.dataset.severity,
      parts: JSON.parse(element.dataset.parts),
      text: element.textContent.toLowerCase(),
    })),
  }));
  const total = kinds.reduce((sum, group) => sum + group.items.length, 0);

  const apply = () => {
    const chosen = new FormData(form);
    const severities = new Set(chosen.getAll("severity"));
    const words = String(chosen.get("text") || "").toLowerCase().split(/\s+/).filter(Boolean);
    const part = chosen.get("part") || "";
    const kind = chosen.get("kind") || "";
    let matches = 0;
    for (const group of kinds) {
      let cards = 0, rows = 0;
      for (const item of group.items) {
        const fits = severities.has(item.severity) && (!part || item.parts.includes(part))
          && (!kind || kind === group.kind) && words.every((word) => item.text.includes(word));
        if (fits) item.isCard ? cards++ : rows++;
        item.element.hidden = !fits || (item.isCard && cards > group.limit);
      }
      matches += cards + rows;
      group.section.hidden = cards + rows === 0;
      if (group.more) {
        group.more.hidden = cards <= group.limit;
        group.more.textContent = `Show ${Math.max(cards - group.limit, 0)} more with pictures`;
      }
      if (group.details) {
        group.details.hidden = rows === 0;
        // A search must not end in a closed fold; what it opened, it closes again.
        if (words.length && rows && !group.details.open) { group.details.open = true; group.opened = true; }
        if (!words.length && group.opened) { group.details.open = false; group.opened = false; }
      }
    }
    tally.textContent = `${matches.toLocaleString("en")} of ${total.toLocaleString("en")} findings`;
  };

  for (const group of kinds) {
    group.more?.addEventListener("click", () => {
      const hidden = group.items.find((item) => item.isCard && item.element.hidden);
      group.limit = Infinity;
      apply();
      if (hidden) { hidden.element.tabIndex = -1; hidden.element.focus(); }
    });
  }
  let waiting = 0;
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(apply, 120); });
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
})();
