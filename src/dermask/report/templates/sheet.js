(() => {
  "use strict";
  const dialog = document.getElementById("large");
  const stage = dialog.querySelector(".stage");
  const words = dialog.querySelector("p");
  const tiles = [...document.querySelectorAll(".enlarge")];
  let current = 0;

  const show = (index) => {
    current = (index + tiles.length) % tiles.length;
    const tile = tiles[current];
    stage.replaceChildren(tile.querySelector("svg").cloneNode(true));
    dialog.style.setProperty("--ratio", tile.style.getPropertyValue("--ratio"));
    words.textContent = [...tile.closest("figure").querySelectorAll("figcaption > span")]
      .map((span) => span.textContent).join(" · ");
    if (!dialog.open) dialog.showModal();
  };
  tiles.forEach((tile, index) => tile.addEventListener("click", () => show(index)));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.value === "0") dialog.close();
    else if (event.target.value) show(current + Number(event.target.value));
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(current - 1);
    if (event.key === "ArrowRight") show(current + 1);
  });
  dialog.addEventListener("close", () => tiles[current].focus());
})();
