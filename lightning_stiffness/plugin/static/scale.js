// Axes of the small charts.

import { svg } from "./dom.js";

// Values → pixels, linearly.
export function linear([low, high], [start, end]) {
  const span = high - low || 1;
  return (value) => start + ((value - low) / span) * (end - start);
}

// Round numbers between low and high, about `wanted` of them.
export function ticks(low, high, wanted = 5) {
  const rough = (high - low) / wanted;
  if (!(rough > 0) || !Number.isFinite(rough)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

export function tickText(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`.replace("-", "−");
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`.replace("-", "−");
  return String(value).replace("-", "−");
}

// Horizontal lines with their numbers at the left; the one at 0 is drawn stronger.
export function gridY(values, y, left, right) {
  return values.map((value) => [
    svg("line", { class: value === 0 ? "zero" : "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
    svg("text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, tickText(value)),
  ]);
}

export function gridX(values, x, top, bottom) {
  return values.map((value) => [
    svg("line", { class: "tickmark", x1: x(value), x2: x(value), y1: bottom, y2: bottom + 4 }),
    svg("text", { class: "tick", x: x(value), y: bottom + 17, "text-anchor": "middle" }, tickText(value)),
  ]);
}

// "M x y L x y …" through the points; a null starts a new piece.
export function path(points) {
  let pen = "M";
  let text = "";
  for (const point of points) {
    if (point === null) {
      pen = "M";
    } else {
      text += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
      pen = "L";
    }
  }
  return text;
}
