// A class matrix whose cells can be pointed at, walked through by arrow keys and chosen.

import { h } from "./dom.js";
import { TOP, drawMatrix, layout } from "./matrix.js";

export class Heatmap {
  // `events`: hover(cell or null, clientX, clientY), pick(cell or null). A cell is { row, column }, both classes.
  constructor(events) {
    this.events = events;
    this.canvas = h("canvas", {
      class: "cells",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "heatmap",
      onpointermove: (event) => this.point(event),
      onpointerleave: () => this.hover(null),
      onclick: (event) => events.pick(this.cellAt(event)),
      onkeydown: (event) => this.key(event),
      onfocus: () => this.reached(),
      onblur: () => this.hover(null),
    });
    this.hoverBox = h("div", { class: "box hover", hidden: true });
    this.pinBox = h("div", { class: "box pinned", hidden: true });
    this.element = h("div", { class: "heatmap" }, this.canvas, this.hoverBox, this.pinBox);
    // Asking for a width makes the browser lay out the page, so that is done only when it has changed.
    new ResizeObserver(() => this.resize()).observe(this.element);
  }

  // `shown`: matrix [c·c] or null, names, order, groups and groupNames or null, theme, hover, pinned,
  // titles [rows, columns], label.
  update(shown) {
    const before = this.shown;
    this.shown = shown;
    this.canvas.setAttribute("aria-label", shown.label);
    const differs = (names) => !before || names.some((name) => before[name] !== shown[name]);
    if (differs(["order", "names", "groupNames"])) this.box = null;
    if (differs(["matrix", "order", "names", "groups", "theme"]) || before.titles.join() !== shown.titles.join()) {
      this.draw();
    } else {
      this.mark();
    }
  }

  // Reached by the keyboard: there is a cell to start from.
  reached() {
    if (!this.shown || !this.canvas.matches(":focus-visible")) return;
    const cell = this.shown.pinned ?? this.cell(0, 0);
    this.hover(cell, ...this.middleOf(cell));
  }

  // What is pointed at is known at once, not only when it is drawn: keys may follow each other faster than that.
  hover(cell, x, y) {
    this.here = cell;
    this.events.hover(cell, x, y);
  }

  cell(i, j) {
    return { row: this.shown.order[i], column: this.shown.order[j] };
  }

  resize() {
    this.width = this.element.clientWidth;
    this.box = null;
    this.draw();
  }

  draw() {
    if (!this.shown || !this.width) return;
    const { canvas } = this;
    const context = canvas.getContext("2d");
    if (!this.box) {
      const box = (this.box = layout(context, this.shown, this.width));
      canvas.width = Math.ceil(box.width * box.ratio);
      canvas.height = Math.ceil(box.height * box.ratio);
      canvas.style.width = `${box.width}px`;
      canvas.style.height = `${box.height}px`;
    }
    const { ratio, width, height } = this.box;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    drawMatrix(context, this.shown, this.box);
    this.mark();
  }

  mark() {
    if (!this.box) return;
    for (const [element, cell] of [[this.hoverBox, this.shown.hover], [this.pinBox, this.shown.pinned]]) {
      const i = cell ? this.shown.order.indexOf(cell.row) : -1;
      const j = cell ? this.shown.order.indexOf(cell.column) : -1;
      element.hidden = i < 0 || j < 0;
      if (element.hidden) continue;
      const side = Math.max(4, this.box.pitch);
      element.style.width = element.style.height = `${side}px`;
      element.style.left = `${this.box.left + j * this.box.pitch + (this.box.pitch - side) / 2}px`;
      element.style.top = `${TOP + i * this.box.pitch + (this.box.pitch - side) / 2}px`;
    }
  }

  cellAt(event) {
    if (!this.box) return null;
    const frame = this.canvas.getBoundingClientRect();
    const size = this.shown.order.length;
    const j = Math.floor((event.clientX - frame.left - this.box.left) / this.box.pitch);
    const i = Math.floor((event.clientY - frame.top - TOP) / this.box.pitch);
    return i >= 0 && j >= 0 && i < size && j < size ? this.cell(i, j) : null;
  }

  // Middle of a cell on the page, for what is shown beside it.
  middleOf(cell) {
    const frame = this.canvas.getBoundingClientRect();
    const [i, j] = [this.shown.order.indexOf(cell.row), this.shown.order.indexOf(cell.column)];
    return [frame.left + this.box.left + (j + 0.5) * this.box.pitch, frame.top + TOP + (i + 0.5) * this.box.pitch];
  }

  point(event) {
    this.hover(this.cellAt(event), event.clientX, event.clientY);
  }

  key(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const last = this.shown.order.length - 1;
    const now = this.here ?? this.shown.pinned ?? this.cell(0, 0);
    let [i, j] = [this.shown.order.indexOf(now.row), this.shown.order.indexOf(now.column)];
    if (event.key in moves) {
      i = Math.min(last, Math.max(0, i + moves[event.key][0]));
      j = Math.min(last, Math.max(0, j + moves[event.key][1]));
    } else if (event.key === "Home") j = 0;
    else if (event.key === "End") j = last;
    else if (event.key === "Enter" || event.key === " ") this.events.pick(now);
    else if (event.key === "Escape") this.events.pick(null);
    else return;
    event.preventDefault();
    this.hover(this.cell(i, j), ...this.middleOf(this.cell(i, j)));
  }
}
