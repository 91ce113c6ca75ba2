// Every number of the step shown, for those who want them: one column for each run.

import { h } from "./dom.js";
import { SERIES, count, number, ranged } from "./words.js";

export function drawNumbers(model) {
  const runs = model.shown.map((run) => ({ run, index: model.indexOf(run) }));
  const rows = new Map();
  const put = (title, place, text) => {
    if (!rows.has(title)) rows.set(title, Array(runs.length).fill("–"));
    rows.get(title)[place] = text;
  };
  runs.forEach(({ run, index }, place) => {
    if (index < 0) return;
    const { block, measure } = model;
    for (const [name, values] of Object.entries(run.series[block]?.[measure] ?? {})) {
      const [low, high] = run.intervals[block]?.[measure]?.[name]?.[index] ?? [];
      const { value, range } = ranged(values[index], low, high, 3);
      put(`${SERIES[name] ?? plain(name)}, ${block}, ${measure}`, place, range ? `${value} (95%: ${range})` : value);
    }
    for (const [split, numbers] of Object.entries(run.diagnostics[index])) {
      for (const [name, value] of Object.entries(numbers)) put(`${plain(name)}, ${split}`, place, number(value, 3));
    }
    put("examples left out (gradient zero or not finite)", place, count(run.excluded[index]));
    put("seconds to measure", place, number(run.seconds[index], 1));
    put("engine", place, run.engines[index]);
  });
  return h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "number"), runs.map(({ run }) => h("th", { scope: "col" }, run.name)))),
    h("tbody", {}, [...rows].map(([title, texts]) =>
      h("tr", {}, h("th", { scope: "row" }, title), texts.map((text) => h("td", { class: "value" }, text))))));
}

function plain(name) {
  return name.replaceAll("_", " ");
}
