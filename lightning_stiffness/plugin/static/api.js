// Data from the plugin's own server; no other address is ever asked.

async function get(route, query) {
  const url = new URL(`../${route}`, import.meta.url);
  url.search = new URLSearchParams(query).toString();
  const response = await fetch(url, { cache: "no-store", credentials: "same-origin" });
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Error(told.error ?? `the server answered ${response.status}`);
  }
  return response;
}

export async function getRuns() {
  return (await get("runs", {})).json();
}

export async function getRun(run) {
  return (await get("run", { run })).json();
}

export async function getView(run, block, measure) {
  return unpack(await (await get("view", { run, block, measure })).arrayBuffer());
}

const TYPES = { "<f4": Float32Array, "<i4": Int32Array };

// The layout is described where it is packed, in payload.py.
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const [name, { dtype, shape, offset, steps }] of Object.entries(header.arrays)) {
    const total = shape.reduce((product, n) => product * n, 1);
    const values = new TYPES[dtype](buffer, 4 + length + offset, total);
    arrays[name] = { values, steps, size: total / shape[0] };
  }
  return { curves: header.curves, arrays };
}

// The array of that name at one step, or null.
export function at(view, name, index) {
  const array = view?.arrays[name];
  const slice = array?.steps[index] ?? -1;
  return slice < 0 ? null : array.values.subarray(slice * array.size, (slice + 1) * array.size);
}
