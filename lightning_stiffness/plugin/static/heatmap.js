// A class matrix on a canvas, with cells that can be pointed at, walked through by arrow keys and chosen.

import { colourTable, ink, place } from "./colours.js";
import { h } from "./dom.js";
import { number } from "./words.js";

const NAME = 96; // pixels that a name may take
const TITLE = 18;
const TOP = 5; // so that the first name is not cut off
const FONT = "system-ui, sans-serif";

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
    this.small = document.createElement("canvas"); // one pixel a cell
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  // `shown`: matrix [c·c] or null, names, order, groups or null, theme, hover, pinned, titles [rows, columns], label.
  update(shown) {
    const before = this.shown;
    this.shown = shown;
    this.canvas.setAttribute("aria-label", shown.label);
    const drawn = ["matrix", "order", "names", "groups", "theme"];
    if (!before || drawn.some((name) => before[name] !== shown[name]) || before.titles[0] !== shown.titles[0]) {
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

  layout() {
    const { names } = this.shown;
    const width = this.element.clientWidth;
    const context = this.canvas.getContext("2d");
    context.font = `13px ${FONT}`;
    const widest = Math.min(NAME, Math.max(8, ...names.map((name) => context.measureText(name).width)));
    const left = TITLE + widest + 8;
    // All of a matrix should be in view at once, but a name under a column must not push it out of the page.
    const room = Math.max(80, Math.min(width - left - 2, 500));
    const ratio = devicePixelRatio || 1;
    const exact = (room * ratio) / names.length;
    const pitch = (exact >= 3 ? Math.floor(exact) : exact) / ratio; // whole pixels: no blurred borders
    const type = Math.min(13, Math.max(9, pitch * 0.8));
    context.font = `${type}px ${FONT}`;
    const level = Math.max(0, ...names.map((name) => context.measureText(name).width)) <= pitch * 0.92;
    const bottom = TITLE + 8 + (level ? type + 2 : widest);
    return { left, pitch, ratio, type, level, side: pitch * names.length, bottom, width: left + pitch * names.length + 2 };
  }

  draw() {
    if (!this.shown || !this.element.clientWidth) return;
    const { names, order, matrix, theme, titles } = this.shown;
    const box = (this.box = this.layout());
    const { canvas } = this;
    const height = TOP + box.side + box.bottom + 2;
    canvas.width = Math.ceil(box.width * box.ratio);
    canvas.height = Math.ceil(height * box.ratio);
    canvas.style.width = `${box.width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(box.ratio, box.ratio);
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--text").trim();
    const muted = style.getPropertyValue("--muted").trim();
    if (matrix) this.paint(context, matrix, order, colourTable(theme), muted);
    context.strokeStyle = muted;
    context.lineWidth = 1;
    context.strokeRect(box.left - 0.5, TOP - 0.5, box.side + 1, box.side + 1);
    this.outline(context, text);
    context.fillStyle = text;
    this.names(context, order.map((i) => names[i]));
    context.font = `12px ${FONT}`;
    context.textAlign = "center";
    context.fillStyle = muted;
    context.fillText(`effect on ${titles[1]} of …`, box.left + box.side / 2, height - 5, box.side);
    context.save();
    context.translate(12, TOP + box.side / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(`step taken on ${titles[0]} of …`, 0, 0, box.side);
    context.restore();
    this.mark();
  }

  paint(context, matrix, order, table, muted) {
    const size = order.length;
    const { left, pitch, side } = this.box;
    this.small.width = this.small.height = size;
    const small = this.small.getContext("2d");
    const image = small.createImageData(size, size);
    const missing = [];
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        const value = matrix[order[i] * size + order[j]];
        const from = place(value);
        const to = 4 * (i * size + j);
        image.data.set(table.subarray(from, from + 3), to);
        image.data[to + 3] = 255;
        if (Number.isNaN(value)) missing.push([i, j]);
      }
    }
    small.putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.small, left, TOP, side, side);
    if (pitch >= 8) this.hatch(context, missing, muted);
    if (pitch < 30) return;
    context.font = `${Math.min(13, pitch / 3.1)}px ${FONT}`;
    context.textAlign = "center";
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        const value = matrix[order[i] * size + order[j]];
        if (Number.isNaN(value)) continue;
        context.fillStyle = ink(table, value);
        context.fillText(number(value), left + (j + 0.5) * pitch, TOP + (i + 0.5) * pitch + 4);
      }
    }
  }

  hatch(context, cells, colour) {
    const { left, pitch } = this.box;
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.beginPath();
    for (const [i, j] of cells) {
      const [x, y] = [left + j * pitch, TOP + i * pitch];
      for (const part of [1 / 3, 2 / 3, 1]) {
        context.moveTo(x, y + part * pitch);
        context.lineTo(x + part * pitch, y);
      }
    }
    context.stroke();
  }

  outline(context, colour) {
    const { groups, order } = this.shown;
    if (!groups) return;
    const { left, pitch } = this.box;
    context.strokeStyle = colour;
    context.lineWidth = pitch > 12 ? 2 : 1.25;
    let start = 0;
    for (let i = 1; i <= order.length; i++) {
      if (i < order.length && groups[order[i]] === groups[order[start]]) continue;
      const side = (i - start) * pitch;
      context.strokeRect(left + start * pitch, TOP + start * pitch, side, side);
      start = i;
    }
  }

  // Every name where there is room, else those of the groups, or every 2nd, 5th, 10th, …
  names(context, names) {
    const { left, pitch, side, type, level } = this.box;
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * pitch >= type + 1) ?? 1000;
    context.font = `${type}px ${FONT}`;
    const groups = every > 1 && this.shown.groupNames ? this.groupLabels(type + 1) : null;
    names.forEach((own, i) => {
      const name = groups ? groups.get(i) : own;
      if (name === undefined || (!groups && i % every)) return;
      const middle = TOP + (i + 0.5) * pitch;
      const short = this.fit(context, name);
      context.textAlign = "right";
      context.fillText(short, left - 6, middle + type * 0.36);
      if (level) {
        context.textAlign = "center";
        context.fillText(short, left + (i + 0.5) * pitch, TOP + side + type + 4);
      } else {
        context.save();
        context.translate(left + (i + 0.5) * pitch + type * 0.36, TOP + side + 6);
        context.rotate(-Math.PI / 2);
        context.textAlign = "right";
        context.fillText(short, 0, 0);
        context.restore();
      }
    });
  }

  // The middle class of each group → the group's name, as far as they do not overlap.
  groupLabels(apart) {
    const { groups, groupNames, order } = this.shown;
    const labels = new Map();
    let last = -Infinity;
    for (let start = 0, end = 0; start < order.length; start = end) {
      while (end < order.length && groups[order[end]] === groups[order[start]]) end++;
      const middle = Math.floor((start + end - 1) / 2);
      if ((middle - last) * this.box.pitch < apart) continue;
      labels.set(middle, groupNames[groups[order[start]]]);
      last = middle;
    }
    return labels;
  }

  fit(context, name) {
    let short = name;
    while (short.length > 1 && context.measureText(short).width > NAME) short = `${short.slice(0, -2).trimEnd()}…`;
    return short;
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
