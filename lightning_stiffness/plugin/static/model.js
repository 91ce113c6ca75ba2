// What is chosen and what has been loaded; everything that is shown follows from it.

import { at, getRun, getRuns, getView } from "./api.js";
import { byGroup, clustered, given } from "./order.js";

export const MOST = 8; // runs side by side
const KEPT = 64; // blocks and measures of runs that stay loaded

export class Model {
  // `changed()` is called after every change.
  constructor(changed) {
    this.changed = changed;
    this.listed = [];
    this.selected = [];
    this.block = "train-val";
    this.measure = "cos";
    this.wanted = { block: this.block, measure: this.measure }; // shown wherever the runs have it
    this.order = "given";
    this.step = null;
    this.hover = null;
    this.layer = null; // name of the layer that is pointed at
    this.pinned = null;
    this.theme = "light";
    this.notes = [];
    this.error = "";
    this.loaded = false;
    this.runs = new Map(); // name → its numbers over the steps
    this.views = new Map(); // run, block, measure → matrices and curves
    this.orders = new Map();
  }

  set(changes) {
    Object.assign(this, changes);
    this.changed();
  }

  // Look for new runs and new steps, and load what is shown.
  async refresh() {
    try {
      const { runs, notes } = await getRuns();
      this.listed = runs;
      this.notes = notes;
      const known = new Set(runs.map((run) => run.name));
      this.selected = this.selected.filter((name) => known.has(name));
      if (!this.selected.length && runs.length) {
        this.selected = [runs.reduce((a, b) => (b.changed > a.changed ? b : a)).name];
      }
      this.error = "";
      await this.load();
    } catch (error) {
      this.error = `TensorBoard does not answer (${error.message}); what is shown may be out of date.`;
    }
    this.loaded = true;
    this.changed();
  }

  async load() {
    const last = this.steps[this.steps.length - 1];
    const follow = this.step === null || this.step === last;
    const versions = new Map(this.listed.map((run) => [run.name, run.version]));
    const missing = this.selected.filter((name) => this.runs.get(name)?.version !== versions.get(name));
    const fresh = await Promise.all(missing.map(getRun));
    for (const run of fresh) this.runs.set(run.name, run);
    for (const name of this.runs.keys()) {
      if (!versions.has(name)) this.runs.delete(name);
    }
    const offered = this.offered();
    const [block, measures] = offered.find(([name]) => name === this.wanted.block) ?? offered[0] ?? [this.block, []];
    this.block = block;
    this.measure = measures.includes(this.wanted.measure) ? this.wanted.measure : measures[0] ?? this.measure;
    // Before the pictures arrive, so that nothing of another step is seen meanwhile.
    const { steps } = this;
    if (follow) this.step = steps[steps.length - 1] ?? null;
    else if (!steps.includes(this.step)) this.step = steps.filter((step) => step <= this.step).pop() ?? steps[0] ?? null;
    await Promise.all(this.selected.map((name) => this.loadView(name)));
  }

  async loadView(name) {
    const run = this.runs.get(name);
    const { block, measure } = this;
    const key = JSON.stringify([name, block, measure]);
    if (!run?.series[block]?.[measure] || this.views.get(key)?.version === run.version) return;
    const view = await getView(name, block, measure);
    this.views.delete(key);
    this.views.set(key, { version: run.version, ...view });
    const [oldest] = this.views.keys();
    if (this.views.size > KEPT) this.views.delete(oldest);
  }

  // Choose other runs, another block or measure; load what that needs.
  async choose({ selected = this.selected, ...wanted }) {
    this.selected = selected;
    Object.assign(this.wanted, wanted);
    this.changed();
    try {
      await this.load();
      this.error = "";
    } catch (error) {
      this.error = `This could not be loaded: ${error.message}.`;
    }
    this.changed();
  }

  // Blocks that the chosen runs have, each with its measures.
  offered() {
    const found = new Map();
    for (const run of this.shown) {
      for (const [block, measures] of Object.entries(run.series)) {
        found.set(block, [...new Set([...(found.get(block) ?? []), ...Object.keys(measures)])]);
      }
    }
    return [...found];
  }

  get shown() {
    return this.selected.map((name) => this.runs.get(name)).filter(Boolean);
  }

  // Every step at which any of the runs was measured.
  get steps() {
    return [...new Set(this.shown.flatMap((run) => run.steps))].sort((a, b) => a - b);
  }

  // Position of the step that a run shows: its last one up to the step chosen; -1 where it began later.
  indexOf(run) {
    let index = -1;
    while (index + 1 < run.steps.length && run.steps[index + 1] <= this.step) index++;
    return index;
  }

  viewOf(run) {
    return this.views.get(JSON.stringify([run.name, this.block, this.measure])) ?? null;
  }

  // Whether a run has matrices or curves that have yet to arrive.
  isLoading(run) {
    return Boolean(run.series[this.block]?.[this.measure]) && !this.viewOf(run);
  }

  get waiting() {
    return !this.loaded || this.selected.some((name) => !this.runs.has(name) || this.isLoading(this.runs.get(name)));
  }

  // Classes in the order shown. Clusters are those of the first run's last step, so that cells stay where they are.
  orderOf(run) {
    const names = run.class_names;
    const key = JSON.stringify([this.order, this.block, this.measure, names, run.groups, this.selected, run.version]);
    if (!this.orders.has(key)) {
      if (this.orders.size > 50) this.orders.clear();
      this.orders.set(key, this.makeOrder(run, names));
    }
    return this.orders.get(key);
  }

  makeOrder(run, names) {
    if (this.order === "group" && run.groups) return byGroup(run.groups);
    if (this.order !== "clustered") return given(names.length);
    const same = (other) => other.class_names?.join("\n") === names.join("\n");
    const model = this.shown.find((other) => same(other) && this.viewOf(other)) ?? run;
    const view = this.viewOf(model);
    let matrix = null;
    for (let i = model.steps.length - 1; i >= 0 && !matrix; i--) matrix = at(view, "matrix", i);
    return matrix ? clustered(matrix, names.length) : given(names.length);
  }

  // What is known of one cell of a run at the step shown.
  cell(run, { row, column }, index = this.indexOf(run)) {
    const size = run.class_names?.length ?? 0;
    const view = this.viewOf(run);
    if (row >= size || column >= size) return null;
    const value = (name, offset = 0) => at(view, name, index)?.[offset + row * size + column];
    return {
      value: value("matrix"),
      low: value("cell_intervals"),
      high: value("cell_intervals", size * size),
      pairs: value("counts"),
    };
  }
}
