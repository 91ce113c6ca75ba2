// The column at the left: which runs, which block, which measure, which order.

import { RUNS } from "./colours.js";
import { h, setText } from "./dom.js";
import { MOST } from "./model.js";
import { BLOCKS, MEASURES } from "./words.js";

const ORDERS = [["given", "as given"], ["group", "by group"], ["clustered", "alike side by side (clustered)"]];

export class Controls {
  // `refresh()` looks for new results; null where there can be none.
  constructor(model, refresh) {
    this.model = model;
    this.filter = h("input", { type: "search", placeholder: "filter", "aria-label": "Filter runs by name", oninput: () => this.update() });
    this.list = h("div", { class: "runs" });
    this.hint = h("p", { class: "hint" });
    this.blocks = h("div");
    this.measures = h("div");
    this.order = h("select", { id: "order", onchange: () => model.set({ order: this.order.value }) },
      ORDERS.map(([value, text]) => h("option", { value }, text)));
    this.auto = h("input", { type: "checkbox", id: "auto", checked: true });
    this.element = h("aside", { "aria-label": "What is shown" },
      h("fieldset", {}, h("legend", {}, "Runs"), this.filter, this.list, this.hint),
      h("fieldset", {}, h("legend", {}, "Step on → effect on"), this.blocks),
      h("fieldset", {}, h("legend", {}, "Measure"), this.measures),
      h("fieldset", {}, h("legend", {}, h("label", { for: "order" }, "Order of classes")), this.order),
      refresh && h("div", { class: "refresh" },
        h("button", { type: "button", onclick: refresh }, "Refresh"),
        h("label", {}, this.auto, "every 15 s")));
  }

  update() {
    const { model } = this;
    const wanted = this.filter.value.toLowerCase();
    this.filter.hidden = model.listed.length <= MOST;
    const full = model.selected.length >= MOST;
    const rows = model.listed.filter((run) => run.name.toLowerCase().includes(wanted) || model.selected.includes(run.name));
    this.fill(this.list, "runs", [rows, model.selected, model.theme], () => rows.map((run) => this.run(run, full)));
    setText(this.hint, full ? `${MOST} runs at most are shown side by side.` : "");
    this.hint.hidden = !full;
    const offered = model.offered();
    const blocks = offered.map(([block]) => block);
    this.fill(this.blocks, "block", [blocks, model.block], () => blocks.map((block) => this.radio("block", block, BLOCKS)));
    const measures = offered.find(([block]) => block === model.block)?.[1] ?? [];
    this.fill(this.measures, "measure", [measures, model.measure], () =>
      measures.map((measure) => this.radio("measure", measure, MEASURES)));
    this.order.value = model.order;
    this.order.querySelector('[value="group"]').disabled = !model.shown.some((run) => run.groups);
  }

  // Rebuild a list only when it differs, and keep the focus where it was.
  fill(place, name, key, make) {
    const text = JSON.stringify(key);
    this.keys = { ...this.keys };
    if (this.keys[name] === text) return;
    this.keys[name] = text;
    const focused = place.contains(document.activeElement) ? document.activeElement.id : null;
    place.replaceChildren(...make());
    if (focused) document.getElementById(focused)?.focus();
  }

  run({ name, steps }, full) {
    const { model } = this;
    const place = model.selected.indexOf(name);
    const box = h("input", {
      type: "checkbox", id: `run ${name}`, checked: place >= 0, disabled: full && place < 0,
      onchange: () => {
        const others = model.selected.filter((other) => other !== name);
        model.choose({ selected: box.checked ? [...others, name] : others });
      },
    }); // prettier-ignore
    const badge = h("span", { class: "badge", "aria-hidden": "true" }, place >= 0 ? place + 1 : "");
    badge.style.background = place >= 0 ? RUNS[model.theme][place] : "transparent";
    const named = name === "." ? "the log directory itself" : name;
    return h("label", { class: "run", title: named }, box, badge, h("span", { class: "name" }, named),
      h("span", { class: "steps" }, `${steps} step${steps === 1 ? "" : "s"}`));
  }

  radio(kind, value, words) {
    const [text, more] = words[value] ?? [value, ""];
    const button = h("input", {
      type: "radio", name: kind, value, id: `${kind} ${value}`, checked: this.model[kind] === value,
      onchange: () => this.model.choose({ [kind]: value }),
    }); // prettier-ignore
    return h("label", { class: "choice" }, button, h("span", {}, text, more && h("small", {}, more)));
  }
}
