// Data from the page itself, in place of the server's: compressed where there is much of it.

const read = (id) => document.getElementById(id).textContent;
let kept = null;

async function unzipped(text) {
  const packed = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

export function report() {
  kept ??= JSON.parse(read("report"));
  return kept;
}

// Answers in the form that a server's have.
export async function get(route, { run, block, measure }) {
  const { listed, runs, views } = report();
  if (route === "runs") return { json: async () => listed };
  const place = runs.findIndex(({ name }) => name === run);
  if (route === "run") return { json: async () => runs[place] };
  return { arrayBuffer: () => unzipped(read(views[place][block][measure])) };
}
