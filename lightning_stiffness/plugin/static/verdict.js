// Whether the network is learning what generalises, in words and numbers.

import { RUNS } from "./colours.js";
import { h } from "./dom.js";
import { isNumber, moment, number, ranged, rangedLength } from "./words.js";

const SIGNS = { good: "✓", fading: "!", bad: "✗", start: "…", unknown: "?" };

// The numbers that the verdict rests on, at one step: always of train-val and train-train, whatever is shown below.
// `classes`: they are called after classes; what is of any two examples all the same is marked.
export function facts(run, index, classes = hasClasses(run, index)) {
  const fact = (title, block, wanted) => {
    const measure = measureOf(run, block);
    const values = run.series[block]?.[measure];
    // As the verdict does: without a pair of the same class, the mean over all pairs.
    const name = wanted ?? (isNumber(values?.within_class?.[index]) ? "within_class" : "overall");
    const raw = values?.[name]?.[index];
    const told = ranged(raw, ...(run.intervals[block]?.[measure]?.[name]?.[index] ?? []));
    const marks = [classes && name === "overall" && "any two", measure === "sign" && "sign"].filter(Boolean);
    return { title, raw, kind: `${name} ${measure}`, mark: isNumber(raw) ? marks.join(", ") : "", ...told };
  };
  const same = classes ? ", same class" : "";
  const xi = run.lengths["train-val"]?.[measureOf(run, "train-val")]?.[index];
  // None is what was looked for and not found.
  const reach = xi ? rangedLength(xi) : { value: number(null), range: "" };
  return [
    fact(`unseen examples${same}`, "train-val"),
    fact(`training examples${same}`, "train-train"),
    fact("unseen examples, other classes", "train-val", "between_class"),
    { title: "reach ξ to unseen examples (a distance)", ...reach, value: `${xi?.extrapolated && isNumber(xi.value) ? "≈ " : ""}${reach.value}` },
  ];
}

function measureOf(run, block) {
  return run.series[block]?.cos ? "cos" : "sign";
}

function hasClasses(run, index) {
  return ["train-val", "train-train"].some((block) => isNumber(run.series[block]?.[measureOf(run, block)]?.within_class?.[index]));
}

export function drawVerdict(model) {
  const runs = model.shown.map((run, i) => ({ run, i, index: model.indexOf(run) }));
  if (!runs.length) return [];
  const question = h("h2", {}, "Is the network learning what generalises?");
  const unit = h("p", { class: "unit" }, "Mean stiffness: 1 helps as much as can be, 0 has no effect, −1 hurts. " +
    "This is about what steps do now, not about how good the network already is: for that, see its validation loss.");
  return [question, runs.length === 1 ? one(runs[0]) : table(runs, model), unit].flat();
}

function one({ run, index }) {
  if (index < 0) return h("p", {}, "This run has no result yet.");
  const { kind, headline, detail } = run.verdicts[index];
  return [
    h("p", { class: `headline ${kind}` }, h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[kind]), headline),
    h("p", { class: "detail" }, detail),
    h("dl", { class: "facts" }, facts(run, index).map(({ title, value, mark, range }) =>
      h("div", {}, h("dt", {}, title), h("dd", {}, value, mark && h("small", {}, mark), range && h("small", {}, `95%: ${range}`))))),
  ];
}

function table(runs, model) {
  const classes = runs.some(({ run, index }) => hasClasses(run, index));
  const titles = facts(runs[0].run, 0, classes).map(({ title }) => title);
  return [h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, ["run", "at", "verdict", ...titles].map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, runs.map(({ run, i, index }) => {
      const badge = h("span", { class: "badge" }, i + 1);
      badge.style.background = RUNS[model.theme][i];
      const name = h("th", { scope: "row", title: run.name }, badge, run.name);
      if (index < 0) return h("tr", {}, name, h("td", { colspan: titles.length + 2 }, "not measured yet at this step"));
      const { kind, headline, detail } = run.verdicts[index];
      const short = headline.split(":")[0];
      return h("tr", {}, name, h("td", {}, moment(run, index)),
        h("td", { title: `${headline} ${detail}` }, h("span", { class: `sign ${kind}`, "aria-hidden": "true" }, SIGNS[kind]), short),
        facts(run, index, classes).map(({ value, mark, range }) =>
          h("td", { class: "value" }, value, mark && h("small", {}, mark), range && h("small", {}, range))));
    })))), h("p", { class: "detail" }, best(runs))];
}

const WHAT = {
  "within_class cos": "unseen examples of the same class",
  "within_class sign": "unseen examples of the same class (by sign)",
  "overall cos": "unseen examples",
  "overall sign": "unseen examples (by sign)",
};

// Which run's steps help unseen examples most, in words: a sentence for the runs of which the same was measured.
function best(runs) {
  const known = runs.map(({ run, i, index }) => ({ run, i, ...facts(run, index)[0] })).filter(({ raw }) => isNumber(raw));
  const told = ({ run, i, value }) => `${run.name} (${i + 1}: ${value})`;
  return Object.entries(WHAT).map(([kind, what]) => {
    const alike = known.filter((one) => one.kind === kind).sort((a, b) => b.raw - a.raw);
    if (alike.length < 2) return "";
    return `A step on one training example helps ${what} most in ${told(alike[0])} and least in ${told(alike[alike.length - 1])}.`;
  }).filter(Boolean).join(" ");
}
