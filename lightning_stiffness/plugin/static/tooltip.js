// A small box beside the pointer. What it says stands elsewhere on the page too, for those who do not point.

import { h } from "./dom.js";

export class Tooltip {
  constructor() {
    this.element = h("div", { class: "tooltip", hidden: true, "aria-hidden": "true" });
  }

  show(children, x, y) {
    this.element.replaceChildren(...children.filter(Boolean));
    this.element.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.element;
    this.element.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
    this.element.style.top = `${y + 18 + height > innerHeight ? Math.max(4, y - height - 12) : y + 18}px`;
  }

  hide() {
    this.element.hidden = true;
  }
}
