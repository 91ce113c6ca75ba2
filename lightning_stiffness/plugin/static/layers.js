// The layers of one run: a row for each, with dots for its means, that can be pointed at and walked through.

import { at } from "./api.js";
import { h, setText } from "./dom.js";
import { linear, tickText, ticks } from "./scale.js";
import { MEASURES, SERIES, effect, isNumber, number } from "./words.js";

const KINDS = ["within_class", "between_class", "overall"];
const PAGE = 10; // layers

// Range of the axis over all steps of the runs shown, so that the picture does not jump; it always holds 0.
export function layerRange(views) {
  let [low, high] = [0, 0];
  for (const values of views.flatMap((view) => KINDS.map((kind) => view?.arrays[`layers/${kind}`]?.values ?? []))) {
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  const spare = Math.max(0.02, 0.04 * (high - low));
  return [Math.min(low, Math.max(-1.02, low - spare)), Math.max(high, Math.min(1.02, high + spare))];
}

// [name, value] of each mean of a layer that was taken at that step.
function means(model, run, index, place) {
  const view = model.viewOf(run);
  return KINDS.map((kind) => [kind, at(view, `layers/${kind}`, index)?.[place]]).filter(([, value]) => value !== undefined);
}

// A layer in one sentence, or nothing where the run has none of that name.
export function layerWords(model, run, layer, index = model.indexOf(run)) {
  const place = run.layer_names?.indexOf(layer) ?? -1;
  if (place < 0) return "";
  const known = means(model, run, index, place);
  const parts = known.map(([kind, value]) => isNumber(value)
    ? `${SERIES[kind]} ${number(value, 3)} (${effect(value)})`
    : `${SERIES[kind]}: no pair of examples to measure`);
  return `${layer}: ${parts.join(", ") || "nothing was measured at this step"}`;
}

export class LayerChart {
  // `point(layer or null, clientX, clientY)`: a layer is pointed at.
  constructor(model, point) {
    this.model = model;
    this.point = point;
    this.rows = h("div", { class: "layer-rows" });
    this.lines = h("div", { class: "layer-lines" });
    this.ticks = h("div", { class: "layer-ticks", "aria-hidden": "true" });
    this.list = h("div", {
      class: "layer-list",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "dot plot",
      onpointermove: (event) => this.hover(this.layerAt(event), event.clientX, event.clientY),
      onpointerleave: () => this.hover(null),
      onkeydown: (event) => this.key(event),
      onfocus: () => this.list.matches(":focus-visible") && this.reach(this.here ?? this.names[0]),
      onblur: () => this.hover(null),
    }, h("div", { class: "layer-body" }, this.lines, this.rows), this.ticks); // prettier-ignore
    this.says = h("p", { class: "says" });
    this.axis = h("p", { class: "layer-axis" });
    this.readout = h("p", { class: "readout" });
    this.element = h("section", { class: "layers" }, h("h4", {}, "Layers: in which do examples agree?"),
      this.says, this.list, this.axis, this.readout);
  }

  update(run, index, range) {
    const { model } = this;
    const names = run.layer_names;
    if (this.names?.join("\n") !== names.join("\n")) this.build(names);
    if (this.range?.join() !== range.join()) this.scale(range);
    const measure = MEASURES[model.measure]?.[2] ?? model.measure;
    this.list.setAttribute("aria-label", `Layers of ${run.name}, ${measure}, ${model.block}: ` +
      `${names.length} layers. Up and down arrow keys move.`);
    setText(this.axis, `hurts  ←  mean ${measure}  →  helps`);
    const x = linear(this.range, [0, 100]);
    names.forEach((name, place) => {
      const values = Object.fromEntries(means(model, run, index, place));
      for (const kind of KINDS) {
        const dot = this.dots[place][kind];
        dot.hidden = !isNumber(values[kind]);
        if (!dot.hidden) dot.style.left = `${x(values[kind])}%`;
      }
      this.rows.children[place].classList.toggle("here", name === model.layer);
    });
    const classes = means(model, run, index, 0).some(([kind]) => kind !== "overall");
    setText(this.says, "The same mean, taken from the gradients of one layer alone. " +
      (classes ? "Filled: examples of the same class. Hollow: of other classes." : "Dots: any two examples."));
    setText(this.readout, this.words(run, index));
  }

  words(run, index) {
    const { model } = this;
    if (model.isLoading(run)) return "Loading …";
    if (!means(model, run, index, 0).length) return "No layers were measured here at this step.";
    return layerWords(model, run, model.layer, index) || "Point at a layer, or walk with the arrow keys.";
  }

  build(names) {
    this.names = names;
    this.here = null;
    this.dots = names.map(() => Object.fromEntries(KINDS.map((kind) => [kind, h("span", { class: `layer-dot ${kind}` })])));
    this.rows.replaceChildren(...names.map((name, place) =>
      h("div", { class: "layer" }, h("span", { class: "layer-name" }, h("bdi", {}, name)),
        h("span", { class: "layer-track" }, Object.values(this.dots[place])))));
  }

  scale(range) {
    this.range = range;
    const x = linear(range, [0, 100]);
    const placed = (value, element) => {
      element.style.left = `${x(value)}%`;
      return element;
    };
    const values = ticks(...range, 6);
    this.lines.replaceChildren(h("span", { class: "layer-track" },
      values.map((value) => placed(value, h("span", { class: value === 0 ? "zero" : "" })))));
    this.ticks.replaceChildren(h("span", { class: "layer-track" },
      values.map((value) => placed(value, h("span", {}, tickText(value))))));
  }

  layerAt(event) {
    const row = event.target.closest(".layer");
    return row ? this.names[[...this.rows.children].indexOf(row)] : null;
  }

  // What is pointed at is known at once: keys may follow each other faster than they are drawn.
  hover(layer, x, y) {
    this.here = layer;
    this.point(layer, x, y);
  }

  // A layer is come to by the keyboard.
  reach(layer) {
    const row = this.rows.children[this.names.indexOf(layer)];
    row.scrollIntoView({ block: "nearest" });
    const { left, top, width, height } = row.getBoundingClientRect();
    this.hover(layer, left + width / 2, top + height / 2);
  }

  key(event) {
    const last = this.names.length - 1;
    const now = Math.max(0, this.names.indexOf(this.here));
    const moves = { ArrowUp: now - 1, ArrowDown: now + 1, PageUp: now - PAGE, PageDown: now + PAGE, Home: 0, End: last };
    if (event.key in moves) this.reach(this.names[Math.min(last, Math.max(0, moves[event.key]))]);
    else if (event.key === "Escape") this.hover(null);
    else return;
    event.preventDefault();
  }
}
