// Data from the plugin's own server; no other address is ever asked. A report has a file of this name of its own.

export async function get(route, query) {
  const url = new URL(`../${route}`, import.meta.url);
  url.search = new URLSearchParams(query).toString();
  const response = await fetch(url, { cache: "no-store", credentials: "same-origin" });
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Error(told.error ?? `the server answered ${response.status}`);
  }
  return response;
}
