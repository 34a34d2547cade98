"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("script");

  // Light or dark: the system's choice until the reader makes another.
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  system.addEventListener("change", nameTheme);
  nameTheme();

  // Choices show the rows and figures of one metric, protocol or shift; a search, the rows whose heading holds a word.
  for (const bar of document.querySelectorAll(".choices")) {
    const scope = document.getElementById(bar.dataset.scope);
    const buttons = [...bar.querySelectorAll("button")];
    const selects = [...bar.querySelectorAll("select")];
    const search = bar.querySelector("[data-search]");
    const count = bar.querySelector(".count");
    const items = [...scope.querySelectorAll("[data-filter]")].filter((item) =>
      scope.tagName === "TABLE" || item.tagName !== "TR");
    const apply = () => {
      const pressed = buttons.filter((button) => button.getAttribute("aria-pressed") === "true");
      const chosen = [...pressed.map(({ dataset: { key, value } }) => [key, value]),
        ...selects.map((select) => [select.dataset.key, select.value])].filter(([, value]) => value);
      const words = search ? search.value.trim().toLowerCase() : "";
      let shown = 0;
      for (const item of items) {
        const fits = chosen.every(([key, value]) => !(key in item.dataset) || item.dataset[key] === value);
        item.hidden = !fits || (words && !item.cells[0].dataset.value.toLowerCase().includes(words));
        shown += !item.hidden;
      }
      if (count) count.textContent = `${shown} of ${items.length} rows`;
    };
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const other of buttons) {
          if (other.dataset.key === button.dataset.key) other.setAttribute("aria-pressed", String(other === button));
        }
        apply();
      });
    }
    for (const select of selects) select.addEventListener("change", apply);
    if (search) search.addEventListener("input", apply);
    bar.hidden = !buttons.length && !selects.length && items.length < 7;
    apply();
  }

  // Tables sort by the columns' headings; what is not known stays last.
  const compare = (kind, sign) => (a, b) => {
    if (kind === "text") return sign * a.localeCompare(b, undefined, { numeric: true });
    const [x, y] = [parseFloat(a), parseFloat(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };
  for (const table of document.querySelectorAll("table.sheet")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, column) => {
      if (!head.dataset.kind) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const first = head.dataset.kind === "number" ? "descending" : "ascending";
        const second = first === "descending" ? "ascending" : "descending";
        const order = head.getAttribute("aria-sort") === first ? second : first;
        for (const other of heads) if (other.dataset.kind) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", order);
        const inOrder = compare(head.dataset.kind, order === "ascending" ? 1 : -1);
        const value = (row) => row.cells[column].dataset.value;
        body.append(...[...body.rows].sort((a, b) => inOrder(value(a), value(b))));
      });
    });
  }

  // Paper has no switches: everything that can be opened is.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not(.config)")) details.open = true;
  });
})();
