// One run: its class matrix and its curve at the step shown.

import { RUNS } from "./colours.js";
import { at } from "./api.js";
import { curveWords, drawCurve } from "./curve.js";
import { h, setText } from "./dom.js";
import { Heatmap } from "./heatmap.js";
import { LayerChart } from "./layers.js";
import { MEASURES, effect, isNumber, moment, pairs, ranged, sides } from "./words.js";

export class Panel {
  constructor(model, events) {
    this.model = model;
    this.events = events;
    this.badge = h("span", { class: "badge", "aria-hidden": "true" });
    this.name = h("span", { class: "name" });
    this.moment = h("span", { class: "moment" });
    this.heatmap = new Heatmap(events);
    this.readout = h("p", { class: "readout" });
    this.noMatrix = h("p", { class: "empty", hidden: true });
    this.words = h("p", { class: "says" });
    this.curve = h("div");
    this.key = h("p", { class: "says" });
    this.width = 0;
    this.redraw = () => {};
    new ResizeObserver(() => {
      this.width = this.curve.clientWidth;
      this.redraw();
    }).observe(this.curve);
    this.side = h("section", {}, h("h4", {}, "How far does a step reach?"), this.words, this.curve, this.key);
    this.element = h("article", { class: "panel" },
      h("h3", {}, this.badge, this.name, this.moment),
      h("div", { class: "pictures" },
        h("section", {}, h("h4", {}, "Which classes help which?"),
          h("p", { class: "says" }, "A step on one example of the row's class: what it does to examples of the column's class."),
          this.heatmap.element, this.noMatrix, this.readout),
        this.side));
  }

  update(run, place, ranges) {
    const { model } = this;
    const index = model.indexOf(run);
    setText(this.badge, String(place + 1));
    this.badge.style.background = RUNS[model.theme][place];
    this.badge.hidden = model.selected.length < 2;
    setText(this.name, run.name === "." ? "the log directory itself" : run.name);
    setText(this.moment, index < 0 ? "not measured yet" : moment(run, index));
    this.updateMatrix(run, index);
    this.updateCurve(run, index, ranges);
    this.updateLayers(run, index, ranges);
  }

  updateMatrix(run, index) {
    const { model } = this;
    const matrix = run.class_names ? at(model.viewOf(run), "matrix", index) : null;
    const loading = model.isLoading(run);
    // An empty frame stands only for what is on its way, so that the page does not jump meanwhile.
    this.heatmap.element.hidden = !run.class_names || !(matrix || loading);
    this.noMatrix.hidden = Boolean(matrix);
    const why = run.class_names ? this.missing(run, index) : "The examples of this run have no classes.";
    setText(this.noMatrix, loading ? "Loading …" : why ?? "Nothing was measured here at this step.");
    if (this.heatmap.element.hidden) {
      setText(this.readout, "");
      return;
    }
    const grouped = run.groups && (model.order === "group" || contiguous(run.groups, model.orderOf(run)));
    this.heatmap.update({
      matrix,
      names: run.class_names,
      order: model.orderOf(run),
      groups: grouped ? run.groups : null,
      groupNames: grouped ? run.group_names : null,
      theme: model.theme,
      hover: model.hover,
      pinned: model.pinned,
      titles: sides(model.block),
      label:
        `Class matrix of ${run.name}, ${MEASURES[model.measure]?.[2] ?? model.measure}, ${model.block}: ` +
        `${run.class_names.length} by ${run.class_names.length} cells. Arrow keys move, Enter shows a cell over time.`,
    });
    setText(this.readout, this.told(run, model.hover ?? model.pinned, index));
  }

  // Why a run shows nothing of the block and measure chosen, which another run has; null where it should.
  missing(run, index) {
    const measures = run.series[this.model.block];
    if (!measures) return "This block was not measured in this run.";
    if (!measures[this.model.measure]) return "This measure was not taken in this run.";
    return index < 0 ? "Nothing was measured here at this step." : null;
  }

  // A cell in one sentence; nothing where the run has no matrix that it could be in.
  told(run, cell, index = this.model.indexOf(run)) {
    if (this.missing(run, index)) return "";
    const known = cell && this.model.cell(run, cell, index);
    if (!known) return "Point at a cell, or walk with the arrow keys; a click shows it over time.";
    const pair = `${named(run, cell.row)} → ${named(run, cell.column)}`;
    if (!isNumber(known.value)) return `${pair}: no pair of examples to measure`;
    const { value, range } = ranged(known.value, known.low, known.high, 3);
    const parts = [
      `${pair}: ${value} (${effect(known.value)})`,
      range && `95% interval ${range}`,
      isNumber(known.pairs) && `${pairs(known.pairs)} of examples`,
    ];
    return parts.filter(Boolean).join(", ");
  }

  updateLayers(run, index, [, , range]) {
    if (run.layer_names && !this.layers) {
      this.layers = new LayerChart(this.model, this.events.layer);
      this.element.append(this.layers.element);
    }
    if (!this.layers) return;
    this.layers.element.hidden = !run.layer_names || Boolean(this.missing(run, index));
    if (run.layer_names) this.layers.update(run, index, range);
  }

  updateCurve(run, index, [range, reach]) {
    const { model } = this;
    const curve = model.viewOf(run)?.curves[index] ?? null;
    const xi = run.lengths[model.block]?.[model.measure]?.[index] ?? null;
    setText(this.words, model.isLoading(run) ? "Loading …" : this.missing(run, index) ?? curveWords(curve, xi));
    setText(this.key, curve ? `Points: mean of the pairs at that distance, with its 95% interval (${curve.interval}). ` +
      "Line: fitted to all pairs; it crosses 0 at ξ. Bars: how many pairs." : "");
    this.redraw = () => this.updateCurve(run, index, [range, reach]);
    if (!this.width) return; // not on the page yet
    if (this.missing(run, index)) {
      this.curve.replaceChildren();
      return;
    }
    const measure = MEASURES[model.measure]?.[2] ?? model.measure;
    const width = Math.min(560, this.width);
    this.curve.replaceChildren(drawCurve(curve, xi, { range, reach, distance: run.distance, measure, width }));
  }
}

// A class, with its group where groups have names.
function named(run, index) {
  return run.class_names[index] + (run.groups && run.group_names ? ` (${run.group_names[run.groups[index]]})` : "");
}

function contiguous(groups, order) {
  const seen = new Set();
  for (let i = 0; i < order.length; i++) {
    const group = groups[order[i]];
    if (i && group === groups[order[i - 1]]) continue;
    if (seen.has(group)) return false;
    seen.add(group);
  }
  return true;
}
