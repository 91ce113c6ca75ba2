// Puts the parts together: a change of the model is shown by every part.

import { Controls } from "./controls.js";
import { curveRanges } from "./curve.js";
import { h, setText } from "./dom.js";
import { History } from "./history.js";
import { drawLegend } from "./legend.js";
import { layerRange, layerWords } from "./layers.js";
import { Model } from "./model.js";
import { drawNumbers } from "./numbers.js";
import { Panel } from "./panel.js";
import { Player } from "./player.js";
import { watchReload, watchTheme } from "./theme.js";
import { Tooltip } from "./tooltip.js";
import { drawVerdict } from "./verdict.js";

const EVERY = 15_000; // ms between two looks for new steps

export class App {
  // `live`: results may be added while the page is open.
  constructor({ live = true } = {}) {
    this.live = live;
    this.model = new Model(() => this.schedule());
    this.tooltip = new Tooltip();
    this.panels = new Map();
    this.controls = new Controls(this.model, live ? () => this.model.refresh() : null);
    this.player = new Player((step) => this.model.set({ step }));
    this.history = new History(this.model, (step) => this.model.set({ step }), this.tooltip);
    this.verdict = h("section", { class: "verdict", "aria-live": "off", "aria-label": "Verdict" });
    this.legend = h("div", { class: "legend", role: "img", "aria-label": "Colour scale: orange hurts, blue helps, grey is missing" });
    this.grid = h("div", { class: "panels" });
    this.status = h("p", { class: "status", role: "status" });
    this.table = h("div", { class: "scroll" });
    this.numbers = h("details", { class: "about numbers", ontoggle: () => this.updateNumbers() },
      h("summary", {}, "All numbers of this step"), this.table);
    this.notes = h("details", { class: "notes", hidden: true });
    this.spoken = h("p", { class: "spoken", "aria-live": "polite" });
    this.content = h("div", { class: "content" }, this.verdict, h("div", { class: "bar" }, this.player.element, this.legend),
      this.grid, this.history.element, this.numbers, about());
    this.empty = h("div", { class: "nothing", hidden: true }, h("h2", {}, "No results yet"),
      h("p", {}, "Results appear here while a network trains with ", h("code", {}, "callbacks=[StiffnessCallback()]"),
        " and a logger. They are read from ", h("code", {}, "<run>/stiffness/step_….npz"), " under TensorBoard's log directory."));
    this.element = h("div", { class: "app" }, this.controls.element,
      h("main", {}, this.status, this.empty, this.content, this.notes), this.tooltip.element, this.spoken);
  }

  async start() {
    watchTheme((theme) => this.model.set({ theme }));
    if (this.live) watchReload(() => this.model.refresh());
    await this.model.refresh();
    if (!this.live) return;
    setInterval(() => {
      const seen = !document.hidden && innerHeight > 0; // a tab not in front has no height
      if (this.controls.auto.checked && seen) this.model.refresh();
    }, EVERY);
  }

  // Several changes in one go are drawn once.
  schedule() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.update();
    });
  }

  update() {
    const { model } = this;
    const runs = model.shown;
    const any = runs.some((run) => run.steps.length);
    this.empty.hidden = !model.loaded || any;
    this.content.hidden = !any;
    setText(this.status, model.error || (model.waiting ? "Loading …" : ""));
    this.status.classList.toggle("error", Boolean(model.error));
    this.controls.update();
    this.updateNotes(runs);
    if (!any) return;
    const index = runs.map((run) => model.indexOf(run));
    const epoch = runs.length === 1 && index[0] >= 0 ? runs[0].epochs[index[0]] : null;
    this.player.update(model.steps, model.step, epoch);
    this.once("verdict", [model.step, model.theme, runs.map((run) => [run.name, run.version])], () =>
      this.verdict.replaceChildren(...drawVerdict(model)));
    this.once("legend", [model.theme], () => this.legend.replaceChildren(...drawLegend(model.theme)));
    const key = [model.block, model.measure, runs.map((run) => [run.name, model.viewOf(run)?.version])];
    this.once("ranges", key, () => (this.ranges = this.findRanges(runs)));
    this.updatePanels(runs);
    this.history.update();
    this.updateNumbers();
  }

  updateNumbers() {
    const { model } = this;
    const what = [model.step, model.block, model.measure, model.shown.map((run) => [run.name, run.version])];
    if (this.numbers.open) this.once("numbers", what, () => this.table.replaceChildren(drawNumbers(model)));
  }

  findRanges(runs) {
    const { model } = this;
    const curves = runs.flatMap((run) => model.viewOf(run)?.curves ?? []);
    const lengths = runs.flatMap((run) => run.lengths[model.block]?.[model.measure] ?? []);
    return [...curveRanges(curves, lengths), layerRange(runs.map((run) => model.viewOf(run)))];
  }

  updatePanels(runs) {
    for (const [name, panel] of this.panels) {
      if (runs.some((run) => run.name === name)) continue;
      panel.element.remove();
      this.panels.delete(name);
    }
    runs.forEach((run, place) => {
      if (!this.panels.has(run.name)) {
        const events = {
          hover: (cell, x, y) => this.hover(run, cell, x, y),
          pick: (cell) => this.model.set({ pinned: cell }),
          layer: (name, x, y) => this.hoverLayer(run, name, x, y),
        };
        this.panels.set(run.name, new Panel(this.model, events));
      }
      const { element } = this.panels.get(run.name);
      if (this.grid.children[place] !== element) this.grid.insertBefore(element, this.grid.children[place] ?? null);
      this.panels.get(run.name).update(run, place, this.ranges);
    });
    this.grid.classList.toggle("several", runs.length > 1);
    // Several runs are compared by their lines first.
    const [above, below] = runs.length > 1 ? [this.history.element, this.grid] : [this.grid, this.history.element];
    if (above.nextElementSibling !== below) below.before(above);
    const place = runs.length > 1 ? this.history.element : this.panels.get(runs[0].name).side;
    if (this.history.means.parentElement !== place) place.prepend(this.history.means);
  }

  // A cell is pointed at: it is marked in every run, and told of each.
  hover(run, cell, x, y) {
    this.model.set({ hover: cell });
    this.tell(run, cell && ((other) => this.panels.get(other.name).told(other, cell)), x, y);
  }

  // The same for a layer, in the runs that have one of that name.
  hoverLayer(run, layer, x, y) {
    this.model.set({ layer });
    this.tell(run, layer !== null && ((other) => layerWords(this.model, other, layer)), x, y);
  }

  // `words(run)`: what is said of a run, or nothing; null where nothing is pointed at.
  tell(run, words, x, y) {
    if (!words) {
      this.tooltip.hide();
      return;
    }
    const { shown } = this.model;
    const told = shown.map((other, i) => [words(other), i]).filter(([text]) => text);
    if (x !== undefined) {
      this.tooltip.show(told.map(([text, i]) => h("div", {}, shown.length > 1 ? `${i + 1}  ${text}` : text)), x, y);
    }
    setText(this.spoken, words(run));
  }

  updateNotes(runs) {
    const notes = [...new Set([...this.model.notes, ...runs.flatMap((run) => run.notes)])];
    this.once("notes", notes, () => {
      this.notes.hidden = !notes.length;
      this.notes.replaceChildren(h("summary", {}, notes.length === 1 ? "1 note" : `${notes.length} notes`),
        h("ul", {}, notes.map((note) => h("li", {}, note))));
    });
  }

  // Do it only if what it depends on has changed.
  once(name, key, action) {
    this.keys ??= {};
    const text = JSON.stringify(key);
    if (this.keys[name] === text) return;
    this.keys[name] = text;
    action();
  }
}

function about() {
  return h("details", { class: "about" }, h("summary", {}, "What is stiffness, and how are these pictures read?"),
    h("p", {}, "Take a small gradient step on one example and look at another: is the network better at it now? If so, the two share " +
      "what was learned. Stiffness is the cosine of their two gradients (or only its sign): 1 helps as much as can be, 0 has no effect, −1 hurts. " +
      "A network that learns features helps examples it was not trained on; one that memorises helps only the example itself, " +
      "and stiffness falls to 0."),
    h("ul", {},
      h("li", {}, "A blue diagonal: steps help their own class. A fading diagonal: the network turns to single examples."),
      h("li", {}, "Blue blocks off the diagonal: related classes share features. One orange cell: the network confuses these two classes."),
      h("li", {}, "The curve falls with distance: near examples help each other, far ones do not. It crosses 0 at ξ.")),
    h("p", {}, "Fort, Nowak, Jastrzębski, Narayanan: Stiffness: A New Perspective on Generalization in Neural Networks, arXiv:1901.09491."));
}
