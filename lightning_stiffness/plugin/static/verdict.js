// Whether the network is learning what generalises, in words and numbers.

import { RUNS } from "./colours.js";
import { h } from "./dom.js";
import { isNumber, length, lengthRange, moment, number } from "./words.js";

const SIGNS = { good: "✓", fading: "!", bad: "✗", start: "…", unknown: "?" };

// The numbers that the verdict rests on, at one step: always of train-val and train-train, whatever is shown below.
export function facts(run, index) {
  const from = (block) => run.series[block]?.cos ?? run.series[block]?.sign ?? {};
  const ranges = (block) => run.intervals[block]?.cos ?? run.intervals[block]?.sign ?? {};
  const lengths = run.lengths["train-val"]?.cos ?? run.lengths["train-val"]?.sign ?? [];
  const name = from("train-val").within_class || from("train-train").within_class ? "within_class" : "overall";
  const fact = (title, block, series) => ({
    title,
    raw: from(block)[series]?.[index],
    value: number(from(block)[series]?.[index]),
    range: between(ranges(block)[series]?.[index]),
  });
  const same = name === "within_class" ? ", same class" : "";
  const xi = lengths[index];
  return [
    fact(`unseen examples${same}`, "train-val", name),
    fact(`training examples${same}`, "train-train", name),
    fact("unseen examples, other classes", "train-val", "between_class"),
    {
      title: "reach ξ (a distance)",
      value: xi && isNumber(xi.value) ? `${xi.extrapolated ? "≈ " : ""}${length(xi.value)}` : "none",
      range: lengthRange(xi),
    },
  ];
}

function between(ends) {
  return isNumber(ends?.[0]) && isNumber(ends?.[1]) ? `${number(ends[0])} to ${number(ends[1])}` : "";
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
    h("dl", { class: "facts" }, facts(run, index).map(({ title, value, range }) =>
      h("div", {}, h("dt", {}, title), h("dd", {}, value, range && h("small", {}, `95%: ${range}`))))),
  ];
}

function table(runs, model) {
  const titles = facts(runs[0].run, 0).map(({ title }) => title);
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
        facts(run, index).map(({ value, range }) =>
          h("td", { class: "value" }, value, range && h("small", {}, range))));
    })))), h("p", { class: "detail" }, best(runs))];
}

// Which run's steps help unseen examples most, in words.
function best(runs) {
  const known = runs.map(({ run, i, index }) => ({ run, i, fact: facts(run, index)[0] })).filter(({ fact }) => isNumber(fact.raw));
  if (known.length < 2) return "";
  known.sort((a, b) => b.fact.raw - a.fact.raw);
  const told = ({ run, i, fact }) => `${run.name} (${i + 1}: ${fact.value})`;
  const what = known[0].fact.title;
  return `A step on one training example helps ${what.replace(",", " of the")} most in ${told(known[0])}` +
    ` and least in ${told(known[known.length - 1])}.`;
}
