// A class matrix drawn on a canvas: cells, names, groups. `shown` is described where it is given, in heatmap.js.

import { INK, colourTable, ink, place } from "./colours.js";
import { number, shortened } from "./words.js";

export const TOP = 5; // pixels above the first row, so that its name is not cut off
const NAME = 96; // pixels that a name may take
const TITLE = 18;
const SIDE = 500; // of a matrix at most: all of it should be in view at once
const EVERY = [1, 2, 5, 10, 20, 50, 100, 200, 500]; // distances between the classes named, where not all are
const FONT = "system-ui, sans-serif";
const small = document.createElement("canvas"); // one pixel a cell

// Where everything stands. Which names are shown depends on the room, and the room on the names: hence two passes.
export function layout(context, shown, width) {
  const { names } = shown;
  const ratio = devicePixelRatio || 1;
  let labels = classLabels(shown, 1);
  let box = null;
  for (let pass = 0; pass < 2; pass++) {
    const longest = Math.min(NAME, widest(context, labels, 13)) + 8;
    const left = TITLE + longest;
    const exact = (Math.max(80, Math.min(width - left - 2, SIDE)) * ratio) / names.length;
    const pitch = (exact >= 3 ? Math.floor(exact) : exact) / ratio; // whole pixels: no blurred borders
    const type = Math.min(13, Math.max(9, pitch * 0.8));
    const every = EVERY.find((n) => n * pitch >= type + 1) ?? names.length;
    labels = every > 1 && shown.groupNames ? groupLabels(shown, (type + 1) / pitch) : classLabels(shown, every);
    const level = every === 1 && widest(context, labels, type) <= pitch * 0.92;
    const side = pitch * names.length;
    const bottom = TITLE + 8 + (level ? type + 2 : longest);
    box = { left, pitch, ratio, type, level, side, labels, width: left + side + 2, height: TOP + side + bottom + 2 };
  }
  return box;
}

function widest(context, labels, type) {
  context.font = `${type}px ${FONT}`;
  return Math.max(8, ...labels.map(([, name]) => context.measureText(name).width));
}

// [position, name] of every n-th class.
function classLabels({ names, order }, every) {
  return order.map((index, i) => [i, names[index]]).filter(([i]) => i % every === 0);
}

// [middle position, name] of the groups, as far as they do not overlap.
function groupLabels({ groups, groupNames, order }, apart) {
  const labels = [];
  for (let start = 0, end = 0; start < order.length; start = end) {
    while (end < order.length && groups[order[end]] === groups[order[start]]) end++;
    const middle = (start + end - 1) / 2;
    if (labels.length && middle - labels[labels.length - 1][0] < apart) continue;
    labels.push([middle, groupNames[groups[order[start]]]]);
  }
  return labels;
}

export function drawMatrix(context, shown, box) {
  const { left, side, height } = box;
  const { text, muted } = INK[shown.theme];
  if (shown.matrix) paint(context, shown, box, muted);
  context.strokeStyle = muted;
  context.lineWidth = 1;
  context.strokeRect(left - 0.5, TOP - 0.5, side + 1, side + 1);
  if (shown.groups) outline(context, shown, box, text);
  context.fillStyle = text;
  drawNames(context, box);
  context.font = `12px ${FONT}`;
  context.textAlign = "center";
  context.fillStyle = muted;
  context.fillText(`effect on ${shown.titles[1]} of …`, left + side / 2, height - 5, side);
  context.save();
  context.translate(12, TOP + side / 2);
  context.rotate(-Math.PI / 2);
  context.fillText(`step taken on ${shown.titles[0]} of …`, 0, 0, side);
  context.restore();
}

function paint(context, { matrix, order, theme }, box, muted) {
  const { left, pitch, side } = box;
  const size = order.length;
  const table = colourTable(theme);
  small.width = small.height = size;
  const pixels = small.getContext("2d");
  const image = pixels.createImageData(size, size);
  // A pixel is written as a whole.
  const to = new Uint32Array(image.data.buffer);
  const from = new Uint32Array(table.buffer);
  const missing = [];
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) {
      const value = matrix[order[i] * size + order[j]];
      to[i * size + j] = from[place(value) / 4];
      if (Number.isNaN(value)) missing.push([i, j]);
    }
  }
  pixels.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, left, TOP, side, side);
  if (pitch >= 8) hatch(context, missing, box, muted);
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

function hatch(context, cells, { left, pitch }, colour) {
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

function outline(context, { groups, order }, { left, pitch }, colour) {
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

function drawNames(context, { left, pitch, side, type, level, labels }) {
  context.font = `${type}px ${FONT}`;
  const names = shortNames(context, labels.map(([, name]) => name));
  for (const [place, [i]] of labels.entries()) {
    const short = names[place];
    context.textAlign = "right";
    context.fillText(short, left - 6, TOP + (i + 0.5) * pitch + type * 0.36);
    if (level) {
      context.textAlign = "center";
      context.fillText(short, left + (i + 0.5) * pitch, TOP + side + type + 4);
      continue;
    }
    context.save();
    context.translate(left + (i + 0.5) * pitch + type * 0.36, TOP + side + 6);
    context.rotate(-Math.PI / 2);
    context.fillText(short, 0, 0);
    context.restore();
  }
}

// Names that fit. Their middle is left out, else their beginning or end: whatever leaves those that differ different.
export function shortNames(context, names) {
  const cut = (share) => names.map((name) => fit(context, name, share));
  return [0.5, 0, 1].map(cut).find((short) => new Set(short).size === new Set(names).size) ?? cut(0.5);
}

function fit(context, name, share) {
  let short = name;
  for (let kept = [...name].length - 1; kept > 1 && context.measureText(short).width > NAME; kept--) {
    short = shortened(name, kept, share);
  }
  return short;
}
