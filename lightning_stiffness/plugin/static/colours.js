// Colours of stiffness, those of the figures: a linear scale from −1 to 1 whose colours change fastest near 0.

export const STOPS = [-1.0, -0.5, -0.2, -0.05, 0.0, 0.05, 0.2, 0.5, 1.0];
export const LIGHT = ["#6b1d00", "#b8430c", "#ee9457", "#fbe2d0", "#ffffff", "#d8e8f5", "#79b2dc", "#2468ad", "#08285c"];
export const DARK = ["#ffdcbd", "#f39a4a", "#a9541d", "#4d3426", "#2a2a2c", "#25394a", "#2b6ea8", "#56aeef", "#cfe9ff"];
export const MISSING = { light: "#d2d2d2", dark: "#5d5d60" };

// Writing on a canvas; elsewhere style.css says it.
export const INK = {
  light: { text: "#1b1b1f", muted: "#5c5f66" },
  dark: { text: "#eceef1", muted: "#a9aeb6" },
};

// Runs side by side; told apart by readers with any of the common colour-vision deficiencies, and by their numbers.
export const RUNS = {
  light: ["#1f5fa6", "#c2480d", "#007a5a", "#8d3d87", "#8a6a00", "#2f8fb8", "#7a3b1d", "#4a4a52"],
  dark: ["#6bb8f2", "#f5a055", "#4cc9a0", "#e39bdc", "#e3c84f", "#9fdcf2", "#e0a58c", "#c9c9d2"],
};

const SIZE = 513;

function channels(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

const tables = new Map();

// Red, green, blue and opacity of SIZE values from −1 to 1, then those of a missing value.
export function colourTable(theme) {
  if (!tables.has(theme)) tables.set(theme, makeTable(theme));
  return tables.get(theme);
}

function makeTable(theme) {
  const colours = (theme === "dark" ? DARK : LIGHT).map(channels);
  const table = new Uint8ClampedArray(4 * (SIZE + 1)).fill(255);
  for (let i = 0; i < SIZE; i++) {
    const value = (2 * i) / (SIZE - 1) - 1;
    let right = 1;
    while (right < STOPS.length - 1 && STOPS[right] < value) right++;
    const part = (value - STOPS[right - 1]) / (STOPS[right] - STOPS[right - 1]);
    for (let c = 0; c < 3; c++) {
      table[4 * i + c] = colours[right - 1][c] + part * (colours[right][c] - colours[right - 1][c]);
    }
  }
  table.set(channels(MISSING[theme]), 4 * SIZE);
  return table;
}

// Where in the table the colour of a value stands.
export function place(value) {
  if (Number.isNaN(value)) return 4 * SIZE;
  const clamped = Math.min(1, Math.max(-1, value));
  return 4 * Math.round(((clamped + 1) / 2) * (SIZE - 1));
}

// Black or white, whichever is read more easily on a value's colour.
export function ink(table, value) {
  const at = place(value);
  return 0.299 * table[at] + 0.587 * table[at + 1] + 0.114 * table[at + 2] > 140 ? "#111111" : "#ffffff";
}
