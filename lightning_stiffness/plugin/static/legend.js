// The colour scale, once for all matrices.

import { DARK, LIGHT, MISSING, STOPS } from "./colours.js";
import { h } from "./dom.js";

export function drawLegend(theme) {
  const colours = theme === "dark" ? DARK : LIGHT;
  const bar = h("span", { class: "scale" });
  bar.style.background = `linear-gradient(to right, ${STOPS.map((at, i) => `${colours[i]} ${(at + 1) * 50}%`).join(", ")})`;
  const none = h("span", { class: "missing" });
  none.style.backgroundColor = MISSING[theme];
  return [
    h("span", {}, "−1 hurts"), h("span", { class: "scale-box" }, bar, h("span", { class: "zero", "aria-hidden": "true" }, "0 no effect")),
    h("span", {}, "1 helps"), none, h("span", {}, "no pair to measure"),
  ];
}
