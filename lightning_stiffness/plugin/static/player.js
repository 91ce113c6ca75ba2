// The slider over the steps of training, and the button that plays them.

import { h, setText } from "./dom.js";
import { count } from "./words.js";

export class Player {
  // `go(step)`: show this step.
  constructor(go) {
    this.go = go;
    this.steps = [];
    this.timer = null;
    this.button = h("button", { type: "button", class: "play", onclick: () => this.toggle() }, "▶ Play");
    this.slider = h("input", {
      type: "range", min: 0, max: 0, value: 0, step: 1, id: "step", "aria-label": "Training step",
      oninput: () => this.go(this.steps[Number(this.slider.value)]),
    }); // prettier-ignore
    this.speed = h("select", { "aria-label": "Speed" },
      h("option", { value: 2 }, "slow"), h("option", { value: 5, selected: true }, "normal"), h("option", { value: 15 }, "fast"));
    this.text = h("output", { for: "step", class: "moment" });
    this.element = h("div", { class: "player", role: "group", "aria-label": "Training over time" },
      this.button, this.speed, this.slider, this.text);
  }

  update(steps, step, epoch) {
    this.steps = steps;
    const index = Math.max(0, steps.indexOf(step));
    this.slider.max = Math.max(0, steps.length - 1);
    this.slider.value = index;
    this.button.disabled = this.slider.disabled = steps.length < 2;
    const text = steps.length ? `step ${count(step)}${epoch === null ? "" : ` · epoch ${count(epoch)}`}` : "";
    this.slider.setAttribute("aria-valuetext", text);
    setText(this.text, steps.length ? `${text} · ${index + 1} of ${steps.length}` : "");
    this.index = index;
  }

  toggle() {
    if (this.timer) {
      this.stop();
      return;
    }
    if (this.index >= this.steps.length - 1) this.go(this.steps[0]);
    this.button.textContent = "❚❚ Pause";
    this.next();
  }

  next() {
    this.timer = setTimeout(() => {
      if (this.index >= this.steps.length - 1) {
        this.stop();
        return;
      }
      this.go(this.steps[this.index + 1]);
      this.next();
    }, 1000 / Number(this.speed.value));
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
    this.button.textContent = "▶ Play";
  }
}
