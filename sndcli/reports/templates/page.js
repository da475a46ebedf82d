"use strict";
// Sorting by any column, curves that answer to a pointer, and configs that are open on paper. The page stands without it.
(() => {
  const number = (cell) => (cell.dataset.value === undefined ? NaN : Number(cell.dataset.value));

  function compare(a, b) {
    const [x, y] = [number(a), number(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) {
      return Number.isNaN(x) && Number.isNaN(y) ? a.textContent.localeCompare(b.textContent) : Number.isNaN(x) - Number.isNaN(y);
    }
    return x === y ? 0 : x - y; // two infinite distances are equal
  }

  function sort(table, column, way) {
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
      rows.sort((a, b) => way * compare(a.cells[column], b.cells[column]));
      body.append(...rows);
    }
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const way = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
        sort(table, column, way);
      });
    });
  }

  const details = [...document.querySelectorAll("details")];
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = details.filter((each) => !each.open);
    closed.forEach((each) => { each.open = true; });
  });
  window.addEventListener("afterprint", () => closed.forEach((each) => { each.open = false; }));

  async function draw(figure) {
    const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    figure.classList.add("live");
    try {
      for (const place of figure.querySelectorAll(".chart")) {
        const spec = JSON.parse(place.querySelector("script").textContent);
        await window.vegaEmbed(place.querySelector(".canvas"), spec, {
          mode: "vega-lite", renderer: "svg", ast: true, actions: false, tooltip: { theme: dark ? "dark" : "light" },
        });
      }
    } catch {
      figure.classList.remove("live"); // the picture stays
    }
  }

  if (window.vegaEmbed) {
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((each) => each.isIntersecting)) {
        watch.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "400px" });
    document.querySelectorAll("figure.curves").forEach((figure) => watch.observe(figure));
  }
})();
