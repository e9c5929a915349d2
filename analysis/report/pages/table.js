// Tables of sweeps: a click on a head sorts, and a cell that is pointed at, focused or touched says what it is made of.
(() => {
  const fresh = [...document.querySelectorAll(".sweep-table:not([data-ready])")];

  // Sorting: the best first, then the other way round, then as it was. What has no number stays below.
  const sort = (table, column, button) => {
    const head = button.closest("th"), body = table.tBodies[0], before = head.getAttribute("aria-sort");
    const first = head.dataset.first, second = first === "descending" ? "ascending" : "descending";
    const order = before === first ? second : before === second ? null : first;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    if (order) head.setAttribute("aria-sort", order);
    const key = (row) => (column && order ? row.cells[column].dataset.value : row.dataset.place);
    const place = (row) => (column || !order ? Number(key(row)) : row.cells[0].textContent);
    const sign = order === "descending" ? -1 : 1;
    const compare = (a, b) => {
      const lacking = Number(key(a) === undefined) - Number(key(b) === undefined);
      if (lacking || key(a) === undefined) return lacking || a.dataset.place - b.dataset.place;
      const [x, y] = [place(a), place(b)];
      return (typeof x === "string" ? sign * x.localeCompare(y) : sign * (x - y)) || a.dataset.place - b.dataset.place;
    };
    body.append(...[...body.rows].sort(compare));
  };

  // One card for all cells. Pointing opens it for a moment; a click, a touch or Enter, until something else is clicked.
  let card, cell, pinned = false, leaving;
  const made = (tag, text, parent, name) => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (name) element.className = name;
    parent.append(element);
    return element;
  };
  const close = () => {
    card?.remove();
    cell?.removeAttribute("aria-describedby");
    card = cell = undefined;
    pinned = false;
  };
  const open = (target) => {
    if (target === cell) return;
    close();
    cell = target;
    card = made("div", "", document.body, "sweep-card");
    card.id = "sweep-card";
    card.setAttribute("role", "tooltip");
    cell.setAttribute("aria-describedby", card.id);
    const [title, ...lines] = cell.dataset.says.split("\n");
    made("strong", title, card);
    for (const line of lines) made("p", line, card);
    const runs = (cell.dataset.runs || "").split(" ").filter(Boolean), at = cell.closest("[data-mlflow]")?.dataset.mlflow;
    const listed = runs.length ? made("p", runs.length > 1 ? "runs: " : "run: ", card, "runs") : null;
    runs.forEach((run, index) => {
      if (index) listed.append(" · ");
      const name = made(at ? "a" : "span", run.slice(0, 8), listed);
      name.title = run;
      if (at) Object.assign(name, { href: `${at}/#/runs/${run}`, target: "_blank", rel: "noopener" });
    });
    const box = cell.getBoundingClientRect(), size = card.getBoundingClientRect();
    const left = Math.min(Math.max(box.right - size.width, 8), document.documentElement.clientWidth - size.width - 8);
    const above = box.bottom + size.height + 8 > innerHeight && box.top > size.height + 8;
    card.style.left = `${scrollX + Math.max(left, 8)}px`;
    card.style.top = `${scrollY + (above ? box.top - size.height - 4 : box.bottom + 4)}px`;
    card.addEventListener("mouseenter", () => clearTimeout(leaving));
    card.addEventListener("mouseleave", away);
  };
  const away = () => {
    clearTimeout(leaving);
    leaving = setTimeout(() => pinned || close(), 150);
  };

  for (const table of fresh) {
    table.dataset.ready = "";
    for (const button of table.querySelectorAll("thead button")) {
      button.addEventListener("click", () => sort(button.closest("table"), button.closest("th").cellIndex, button));
    }
    for (const target of table.querySelectorAll("td[title]")) {
      target.dataset.says = target.title; // the browser's own would cover the card
      target.removeAttribute("title");
      target.addEventListener("mouseenter", () => {
        clearTimeout(leaving);
        pinned || open(target);
      });
      target.addEventListener("mouseleave", away);
      target.addEventListener("click", () => {
        open(target);
        pinned = true;
      });
      target.addEventListener("keydown", (event) => {
        if (event.key !== "Enter") return;
        open(target);
        pinned = true;
        card.querySelector("a")?.focus();
      });
    }
  }
  if (!fresh.length || document.documentElement.dataset.sweepCards !== undefined) return;
  document.documentElement.dataset.sweepCards = "";
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !cell) return;
    cell.focus();
    close();
  });
  document.addEventListener("click", (event) => {
    if (card && !card.contains(event.target) && !event.target.closest("td[data-says]")) close();
  });
})();
