// The lines over training: within and between classes, ξ, and the pair of classes that was clicked.

import { at } from "./api.js";
import { RUNS } from "./colours.js";
import { h, setText } from "./dom.js";
import { Timeline } from "./timeline.js";
import { SERIES, isNumber, shortened } from "./words.js";

const SHORT = {
  within_class: "same class",
  between_class: "others",
  within_superclass: "same group",
  overall: "any two",
};
const LINES = [["within_class", null], ["between_class", "6 4"], ["within_superclass", "2 3"], ["overall", null]];

export class History {
  constructor(model, go, tooltip) {
    this.model = model;
    this.charts = ["means", "lengths", "pair"].map(() => new Timeline(go, tooltip));
    this.pairTitle = h("h4");
    this.legend = h("p", { class: "says" });
    const unpin = h("button", { type: "button", class: "quiet", onclick: () => model.set({ pinned: null }) }, "clear");
    this.unpin = unpin;
    // Beside the pictures of a single run, else first among the lines of several.
    this.means = h("section", { class: "means" }, h("h4", {}, "Does a step help its own class, and the others?"), this.legend,
      this.charts[0].element);
    this.element = h("section", { class: "history", "aria-label": "Over training" }, this.means,
      h("section", { class: "lengths" }, h("h4", {}, "Reach ξ over training"),
        h("p", { class: "says" }, "It shrinks as the network learns to tell nearer and nearer inputs apart. Hollow: beyond the distances measured."),
        this.charts[1].element),
      h("section", { class: "pair" }, this.pairTitle,
        h("p", { class: "says" }, "Below 0 the network confuses the two: what teaches it one makes it worse at the other. ", unpin),
        this.charts[2].element));
  }

  update() {
    const { model } = this;
    const runs = model.shown;
    const { block, measure, theme } = model;
    const versions = runs.map((run) => [run.name, run.version, model.viewOf(run)?.version]);
    const key = JSON.stringify([versions, block, measure, theme, model.pinned]);
    if (key !== this.key) this.draw(runs);
    this.key = key;
    for (const chart of this.charts) chart.moveTo(model.step);
  }

  draw(runs) {
    const { model } = this;
    const several = runs.length > 1;
    setText(this.legend, `Good: ${several ? "solid lines (same class) stay" : "the solid line (same class) stays"} high` +
      " and the dashed rises to 0 or above. Bad: the solid falls to 0, which is overfitting." +
      (this.mixed(runs) ? " Dotted: a run without classes, any two examples; not to be compared with the others." : ""));
    this.charts[0].update(this.meanLines(runs, several), "Mean stiffness within and between classes over training",
      { empty: "No means were measured." });
    this.charts[1].update(this.lengths(runs, several), "Critical length ξ over training",
      { empty: "No ξ was found at any step: stiffness does not fall with distance, or no distances were measured." });
    const pinned = model.pinned;
    const first = runs.find((run) => pinned && run.class_names && pinned.row < run.class_names.length && pinned.column < run.class_names.length);
    const names = first && [first.class_names[pinned.row], first.class_names[pinned.column]];
    setText(this.pairTitle, first ? `${names[0]} → ${names[1]} over training` : "One pair of classes over training");
    this.unpin.hidden = !first;
    this.charts[2].update(first ? this.pair(runs, several, pinned) : [], `Stiffness of one pair of classes over training`,
      { empty: "Click a cell of a class matrix to see it over training." });
  }

  // Whether runs with classes stand beside runs without.
  mixed(runs) {
    const { block, measure } = this.model;
    const series = runs.map((run) => run.series[block]?.[measure]).filter(Boolean);
    return series.some((one) => one.within_class) && series.some((one) => !one.within_class);
  }

  meanLines(runs, several) {
    const { block, measure, theme } = this.model;
    const short = (name) => (name === "within_class" && block === "train-val" ? "same, unseen" : SHORT[name]);
    return runs.flatMap((run, i) => {
      const series = run.series[block]?.[measure] ?? {};
      const ranges = run.intervals[block]?.[measure] ?? {};
      const wanted = LINES.filter(([name]) => series[name] && (name !== "overall" || !series.within_class));
      const kept = several ? wanted.filter(([name]) => name !== "within_superclass") : wanted;
      const lines = kept.map(([name, dash]) => line(run, i, theme, series[name], dash, SERIES[name], short(name), several, {
        low: ranges[name]?.map((ends) => ends?.[0]),
        high: ranges[name]?.map((ends) => ends?.[1]),
        ...(name === "overall" && this.mixed(runs) ? { dash: "1 4" } : {}),
      }));
      const train = run.series["train-train"]?.[measure]?.within_class;
      if (!several && block === "train-val" && train) {
        lines.push({ ...line(run, i, theme, train, "1 3", "same class, training examples", "same, training", false),
          colour: "var(--muted)", thin: true });
      }
      return lines;
    });
  }

  lengths(runs, several) {
    const { block, measure, theme } = this.model;
    return runs.flatMap((run, i) => {
      const lengths = run.lengths[block]?.[measure];
      if (!lengths) return [];
      return [line(run, i, theme, lengths.map((xi) => xi?.value ?? null), null, "ξ", "ξ", several, {
        hollow: lengths.map((xi) => Boolean(xi?.extrapolated)),
        low: lengths.map((xi) => xi?.low ?? null),
        high: lengths.map((xi) => xi?.high ?? null),
      })];
    });
  }

  pair(runs, several, { row, column }) {
    const { block, theme } = this.model;
    const [first, second] = block.split("-");
    return runs.flatMap((run, i) => {
      const names = run.class_names;
      if (!names || row >= names.length || column >= names.length) return [];
      const view = this.model.viewOf(run);
      const over = (a, b, name, offset = 0) =>
        run.steps.map((_, t) => at(view, name, t)?.[offset + a * names.length + b]).map((v) => (isNumber(v) ? v : null));
      const half = names.length ** 2;
      const made = (a, b, dash) => line(run, i, theme, over(a, b, "matrix"), dash, `${names[a]} → ${names[b]}`, `→ ${names[b]}`, several, {
        low: over(a, b, "cell_intervals"), high: over(a, b, "cell_intervals", half),
      }); // prettier-ignore
      const both = first !== second && row !== column;
      return [made(row, column, null), ...(both ? [made(column, row, "6 4")] : [])];
    });
  }
}

// A line of one run; where several runs are shown, the run's number is its label.
function line(run, i, theme, values, dash, title, short, several, more = {}) {
  const cut = short.length > 15 ? shortened(short, 14, 0.6) : short;
  return {
    label: several ? (dash ? "" : `${i + 1}`) : cut,
    name: several ? `${i + 1} ${run.name}, ${title}` : title,
    colour: RUNS[theme][i],
    dash,
    steps: run.steps,
    values,
    ...more,
  };
}
