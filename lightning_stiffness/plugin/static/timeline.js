// Numbers over the steps of training, several runs in one picture.

import { h, svg } from "./dom.js";
import { gridX, gridY, linear, path, ticks } from "./scale.js";
import { isNumber, ranged } from "./words.js";

const HEIGHT = 230;
const LEFT = 42;
const TOP = 10;
const BOTTOM = HEIGHT - 40;
const SIGN = 6.8; // about the width of a sign of a label, in pixels

export class Timeline {
  // `go(step)`: a step was clicked.
  constructor(go, tooltip) {
    this.go = go;
    this.tooltip = tooltip;
    this.element = h("div", { class: "timeline" });
    this.redraw = () => {};
    new ResizeObserver(() => {
      if (this.element.clientWidth !== this.width) this.redraw();
    }).observe(this.element);
  }

  // Lines: { label, colour, dash, thin, steps, values, low, high, hollow }, arrays alike in length; `zero`: show 0.
  update(lines, label, { zero = true, empty = "Nothing to show.", digits = 3 } = {}) {
    this.redraw = () => this.draw(lines, label, zero, empty, digits);
    this.redraw();
  }

  // Mark the step that is shown elsewhere on the page.
  moveTo(step) {
    this.step = step;
    if (!this.cursor || !isNumber(step)) return;
    const x = this.x(Math.min(this.domain[1], Math.max(this.domain[0], step)));
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
  }

  draw(lines, label, zero, empty, digits) {
    const seen = lines.filter((line) => line.values.some(isNumber));
    this.cursor = null;
    this.width = this.element.clientWidth;
    if (!seen.length) {
      this.element.replaceChildren(h("p", { class: "empty" }, empty));
      return;
    }
    const width = Math.min(620, this.width || 400);
    // Labels stand at the ends of the lines.
    const longest = Math.max(...seen.map((line) => line.label.length));
    this.right = width - Math.min(0.4 * width, 12 + SIGN * longest);
    const steps = seen.flatMap((line) => line.steps);
    const values = seen.flatMap((line) => [...line.values, ...(line.low ?? []), ...(line.high ?? [])]).filter(isNumber);
    if (zero) values.push(0);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const spare = Math.max(0.01, 0.06 * (high - low));
    this.domain = [Math.min(...steps), Math.max(...steps)];
    const [first, last] = this.domain;
    if (first === last) this.domain = [first - 0.5, last + 0.5]; // the one step in the middle
    this.x = linear(this.domain, [LEFT, this.right]);
    this.y = linear([low - spare, high + spare], [BOTTOM, TOP]);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, class: "chart", role: "img", "aria-label": label });
    picture.append(...gridY(ticks(low - spare, high + spare, 4), this.y, LEFT, this.right).flat());
    picture.append(...gridX(ticks(...this.domain, 4).filter(Number.isInteger), this.x, TOP, BOTTOM).flat());
    picture.append(svg("text", { class: "axis", x: (LEFT + this.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "step"));
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: BOTTOM });
    picture.append(this.cursor);
    for (const line of seen) picture.append(...this.line(line));
    picture.append(...this.labels(seen));
    picture.addEventListener("pointermove", (event) => this.point(event, picture, seen, digits));
    picture.addEventListener("pointerleave", () => this.tooltip.hide());
    picture.addEventListener("click", (event) => this.go(this.nearest(event, picture, seen)));
    this.element.replaceChildren(picture);
    this.moveTo(this.step);
  }

  line({ colour, dash, thin, steps, values, low, high, hollow }) {
    const point = (value, i) => (isNumber(value) ? [this.x(steps[i]), this.y(value)] : null);
    const parts = [];
    if (low && high && low.some(isNumber)) {
      const known = steps.map((_, i) => i).filter((i) => isNumber(low[i]) && isNumber(high[i]));
      const upper = known.map((i) => [this.x(steps[i]), this.y(high[i])]);
      const lower = known.map((i) => [this.x(steps[i]), this.y(low[i])]).reverse();
      const band = svg("path", { class: "band", d: `${path([...upper, ...lower])}Z` });
      band.style.fill = colour;
      parts.push(band);
    }
    const drawn = svg("path", { class: thin ? "line thin" : "line", d: path(values.map(point)), "stroke-dasharray": dash });
    drawn.style.stroke = colour;
    parts.push(drawn);
    const few = values.length <= 30 || hollow;
    values.forEach((value, i) => {
      const alone = !isNumber(values[i - 1]) && !isNumber(values[i + 1]);
      if (!isNumber(value) || !(few || alone) || thin) return;
      const mark = svg("circle", { class: "mark", cx: this.x(steps[i]), cy: this.y(value), r: 2.6 });
      mark.style.stroke = colour;
      mark.style.fill = hollow?.[i] ? "var(--panel)" : colour;
      parts.push(mark);
    });
    return parts;
  }

  // Each line's name at its end, pushed apart where they would overlap.
  labels(lines) {
    const wanted = lines.filter((line) => line.label).map((line) => {
      let last = line.values.length - 1;
      while (!isNumber(line.values[last])) last--;
      return { line, y: this.y(line.values[last]) + 4 };
    });
    wanted.sort((a, b) => a.y - b.y);
    wanted.forEach((label, i) => {
      if (i) label.y = Math.max(label.y, wanted[i - 1].y + 12);
    });
    const over = wanted.length ? wanted[wanted.length - 1].y - (BOTTOM + 4) : 0;
    if (over > 0) {
      wanted[wanted.length - 1].y -= over;
      for (let i = wanted.length - 2; i >= 0; i--) wanted[i].y = Math.min(wanted[i].y, wanted[i + 1].y - 12);
    }
    return wanted.map(({ line, y }) => {
      const text = svg("text", { class: "end", x: this.right + 8, y }, line.label);
      text.style.fill = line.colour;
      return text;
    });
  }

  nearest(event, picture, lines) {
    const frame = picture.getBoundingClientRect();
    const x = event.clientX - frame.left;
    const steps = lines.flatMap((line) => line.steps);
    return steps.reduce((best, step) => (Math.abs(this.x(step) - x) < Math.abs(this.x(best) - x) ? step : best));
  }

  point(event, picture, lines, digits) {
    const step = this.nearest(event, picture, lines);
    const told = lines.map((line) => {
      const i = line.steps.indexOf(step);
      if (i < 0 || !isNumber(line.values[i])) return null;
      const { value, range } = ranged(line.values[i], line.low?.[i], line.high?.[i], digits);
      return h("div", {}, `${line.name ?? line.label}: ${value}${range && ` (95% ${range})`}`);
    });
    this.tooltip.show([h("strong", {}, `step ${step}`), ...told], event.clientX, event.clientY);
  }
}
