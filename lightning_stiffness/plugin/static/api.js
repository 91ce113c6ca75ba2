// What the page is made from: the list of runs, a run's numbers, its matrices and curves.

import { get } from "./transport.js";

export async function getRuns() {
  return (await get("runs", {})).json();
}

export async function getRun(run) {
  return (await get("run", { run })).json();
}

export async function getView(run, block, measure) {
  return unpack(await (await get("view", { run, block, measure })).arrayBuffer());
}

const TYPES = { "<f4": Float32Array, "<i4": Int32Array, "<i2": Int16Array };
const NONE = -32768; // stands for a missing value among whole numbers

// The layout is described where it is packed, in payload.py.
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const [name, { dtype, shape, offset, steps, scale }] of Object.entries(header.arrays)) {
    const total = shape.reduce((product, n) => product * n, 1);
    const kept = new TYPES[dtype](buffer, 4 + length + offset, total);
    arrays[name] = { values: scale ? scaled(kept, scale) : kept, steps, size: total / shape[0] };
  }
  return { curves: header.curves, arrays };
}

// Whole numbers stand for multiples of 1 / scale.
function scaled(kept, scale) {
  const values = new Float32Array(kept.length);
  for (let i = 0; i < kept.length; i++) values[i] = kept[i] === NONE ? NaN : kept[i] / scale;
  return values;
}

// The array of that name at one step, or null.
export function at(view, name, index) {
  const array = view?.arrays[name];
  const slice = array?.steps[index] ?? -1;
  return slice < 0 ? null : array.values.subarray(slice * array.size, (slice + 1) * array.size);
}
