"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  const board = document.getElementById("board");
  const status = document.getElementById("status");
  const dialog = document.getElementById("detail");
  const body = document.getElementById("detail-body");
  const heading = document.getElementById("detail-title");
  const ALL = "";
  const filters = ["dataset", "split", "method", ...(data.origins.length ? ["origin"] : [])];
  const groups = data.groups.map(([id]) => id);
  const titles = Object.fromEntries([...data.metrics, ...data.groups].map(([id, title]) => [id, title]));
  const sort = { key: null, ascending: false };
  const hasOrigins = data.origins.length > 0;
  const narrow = matchMedia("(max-width: 30rem)");

  // All text comes from records and is set as text, never as markup.
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "onclick") element.addEventListener("click", value);
      else if (value !== undefined && value !== false) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== undefined && child !== ""));
    return element;
  };
  const decimals = (value) => value.toFixed(2);
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
  const spread = (cell) => decimals(cell.mean) + (cell.std === undefined ? "" : " ± " + decimals(cell.std));
  const distinct = (values) => [...new Set(values)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));

  const fill = (name, entries, keep) => {
    const select = form.elements[name];
    const before = keep ? select.value : undefined;
    select.replaceChildren(...entries.map(([value, text]) => make("option", { value }, text)));
    if (before !== undefined && entries.some(([value]) => value === before)) select.value = before;
  };
  const named = (values, every) => [[ALL, every], ...values.map((value) => [value, value])];
  const chosen = (name) => form.elements[name].value;

  const offerSplits = () => {
    const rows = data.rows.filter((row) => [ALL, row.dataset].includes(chosen("dataset")));
    fill("split", named(distinct(rows.map((row) => row.split)), "all"), true);
  };

  const columns = () => {
    const metrics = chosen("metric") === ALL ? data.metrics.map(([id]) => id) : [chosen("metric")];
    const shown = chosen("group") === ALL ? groups : [chosen("group")];
    return metrics.flatMap((metric) => shown.map((group) => ({ metric, group, key: metric + " " + group })));
  };

  const value = (row, key) => {
    if (key === "method") return row.method;
    if (key === "seeds") return row.seeds;
    if (key === "origin") return row.origin;
    const [metric, group] = key.split(" ");
    return row.cells[metric]?.[group]?.mean;
  };

  const compare = (a, b) => {
    const [x, y] = [value(a, sort.key), value(b, sort.key)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // empty cells last
    const order = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return sort.ascending ? order : -order;
  };

  const header = (key, text, extra = {}) => {
    const active = sort.key === key;
    const button = make("button", { type: "button", "data-key": key, onclick: () => sortBy(key) }, text);
    return make("th", { scope: "col", "aria-sort": active ? (sort.ascending ? "ascending" : "descending") : "none", ...extra }, button);
  };

  const lowestFirst = (key) => ["method", "origin"].includes(key) || data.lower_is_better.includes(key.split(" ")[0]);

  const sortBy = (key) => {
    sort.ascending = sort.key === key ? !sort.ascending : lowestFirst(key);
    sort.key = key;
    draw();
    board.querySelector(`thead button[data-key="${CSS.escape(key)}"]`).focus();
    board.parentElement.scrollLeft = 0;
  };

  const number = (row, { metric, group }) => {
    const cell = row.cells[metric]?.[group];
    if (cell === undefined || cell.mean === undefined) {
      const reason = cell?.reason ?? "not computed";
      return make("td", {}, make("span", { class: "missing", title: reason, role: "img", "aria-label": "no value: " + reason }, "–"));
    }
    const label = `${spread(cell)}, ${titles[metric]} ${titles[group] ?? group}, ${row.method} on ${row.split}: where it comes from`;
    const style = { 1: "first", 2: "second" }[cell.rank];
    const show = () => explain(row, metric, group, cell);
    const printed = cell.published && make("span", { class: "sub" }, `${decimals(cell.published.value)}, ${signed(cell.mean - cell.published.value)}`);
    return make("td", {}, make("button", { type: "button", class: style, "aria-label": label, onclick: show }, spread(cell)), printed);
  };

  // The columns behind the method; on a narrow screen the one that is sorted by comes first.
  const shownColumns = () => {
    const numbers = columns();
    const several = new Set(numbers.map((column) => column.metric)).size > 1 || numbers.length === 1;
    const shown = numbers.map((column) => ({ key: column.key, title: (several ? titles[column.metric] + " " : "") + titles[column.group], cell: (row) => number(row, column) }));
    if (hasOrigins) shown.push({ key: "origin", title: "Measured by", extra: { class: "text" }, cell: (row) => make("td", { class: "text" }, row.origin, make("span", { class: "sub" }, row.made_with)) });
    shown.push({ key: "seeds", title: "Lists x seeds", cell: (row) => make("td", {}, row.design) });
    if (sort.key === null || !["method", ...shown.map((column) => column.key)].includes(sort.key)) {
      const { key } = numbers[numbers.length - 1];
      Object.assign(sort, { key, ascending: lowestFirst(key) });
    }
    if (narrow.matches) shown.sort((a, b) => (b.key === sort.key) - (a.key === sort.key));
    return shown;
  };

  const line = (row, shown) => make("tr", {},
    make("th", { scope: "row" }, row.method, make("span", { class: "sub" }, [...row.privileges, ...row.notes].join(", "))),
    ...shown.map((column) => column.cell(row)),
    make("td", {}, make("button", { type: "button", class: "more", "aria-label": `Categories of ${row.method} on ${row.split}`, onclick: () => categories(row) }, String(Object.keys(row.sizes).length))));

  // One leaderboard a training set and protocol.
  const leaderboard = (name, rows, shown) => make("tbody", {},
    make("tr", { class: "set" }, make("th", { scope: "rowgroup", colspan: shown.length + 2 }, make("span", { class: "wide" }, name, make("span", { class: "sub" }, data.boards[name])))),
    ...rows.filter((row) => row.board === name).map((row) => line(row, shown)));

  const draw = () => {
    const shown = shownColumns();
    const rows = data.rows.filter((row) => filters.every((name) => [ALL, row[name]].includes(chosen(name))));
    rows.sort(compare);
    board.tHead.replaceChildren(make("tr", {},
      header("method", "Method"), ...shown.map((column) => header(column.key, column.title, column.extra)), make("th", { scope: "col" }, "Categories")));
    for (const body of [...board.tBodies]) body.remove();
    board.append(...distinct(rows.map((row) => row.board)).map((name) => leaderboard(name, rows, shown)));
    const [metric, group] = sort.key.split(" ");
    const by = group ? `${titles[metric]} ${titles[group]}` : { method: "method", seeds: "runs", origin: "who measured" }[metric];
    status.textContent = `${rows.length} of ${data.rows.length} rows, in each leaderboard sorted by ${by}, ${sort.ascending ? "lowest" : "highest"} first.`;
  };

  const open = (title, ...content) => {
    heading.textContent = title;
    body.replaceChildren(...content);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    heading.focus();
  };
  const list = (pairs) => make("dl", {}, ...pairs.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));

  const explain = (row, metric, group, cell) => {
    const facts = [["Value", spread(cell) + " %"], ["Over", row.over], ["Preset", row.preset], ["Protocol", row.protocol]];
    if (row.origin) facts.push(["Measured by", row.origin]);
    if (row.made_with) facts.push(["Measured on", row.made_with]);
    if (row.privileges.length) facts.push(["Privilege", row.privileges.join(", ")]);
    if (row.notes.length) facts.push(["Lists", row.notes.join("; ")]);
    const printed = cell.published;
    if (printed) {
      facts.push(["Published", `${decimals(printed.value)} %, measured minus published ${signed(cell.mean - printed.value)} points`]);
      facts.push(["Source", `${printed.source} (table ${printed.table})`]);
      if (printed.flag) facts.push(["Published value is", `${printed.flag}: ${printed.note}`]);
    } else facts.push(["Published", "no published number for this setting"]);
    const runs = row.runs.map((key) => {
      const run = data.runs[key];
      const seconds = Object.entries(run.seconds).map(([phase, time]) => `${phase} ${time} s`).join(", ");
      return make("details", {}, make("summary", {}, `Run ${run.hash}, seed ${run.spec.seed}, split seed ${run.split_seed}`),
        list([["Finished", run.created], ["Time", seconds], ["Paper", run.paper ?? "none"], ["Split", `${run.spec.split}, sha256 ${run.spec.split_sha256}`]]),
        make("h3", {}, "Specification"), make("pre", {}, JSON.stringify(run.spec, null, 1)),
        make("h3", {}, "Environment"), make("pre", {}, JSON.stringify(run.environment, null, 1)));
    });
    if (runs.length === 1) runs[0].open = true;
    open(`${row.method} on ${row.split}: ${titles[metric]}, ${titles[group] ?? group}`, list(facts), ...runs);
  };

  const categories = (row) => {
    const order = Object.keys(row.sizes).sort((a, b) => row.sizes[b] - row.sizes[a] || a.localeCompare(b));
    const metrics = data.metrics.map(([id]) => id).filter((id) => row.cells[id]);
    const size = (name) => Number.isInteger(row.sizes[name]) ? String(row.sizes[name]) : row.sizes[name].toFixed(1);
    const role = (name) => row.high.includes(name) ? "High" : row.low.includes(name) ? "Low" : "varies";
    const table = make("table", { class: "board" },
      make("caption", {}, make("span", { class: "wide" }, "Each category, the largest first; training images are the mean over lists, contaminants included.")),
      make("thead", {}, make("tr", {}, ...["Category", "Images", "Group", ...metrics.map((id) => titles[id])].map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...order.map((name) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, size(name)), make("td", {}, role(name)), ...metrics.map((metric) => number(row, { metric, group: name }))))));
    open(`${row.method} on ${row.split}, by category`, make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Categories" }, table));
  };

  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  form.addEventListener("change", (event) => { if (event.target.name === "dataset") offerSplits(); draw(); });
  narrow.addEventListener("change", () => draw());
  form.addEventListener("submit", (event) => event.preventDefault());

  fill("dataset", named(distinct(data.rows.map((row) => row.dataset)), "all"));
  fill("method", named(distinct(data.rows.map((row) => row.method)), "all"));
  if (hasOrigins) fill("origin", named(data.origins, "all"));
  fill("metric", [...data.metrics.map(([id, title]) => [id, title]), [ALL, "all"]]);
  fill("group", [[ALL, "all three"], ...data.groups.map(([id, title]) => [id, title])]);
  offerSplits();
  draw();
})();
