// Light or dark: TensorBoard's own switch where the plugin stands in its frame, else the browser's preference.

const query = matchMedia("(prefers-color-scheme: dark)");

function host() {
  try {
    return parent === window ? null : parent.document.body;
  } catch {
    return null; // TensorBoard itself inside a page of another origin
  }
}

// Calls `changed("light" | "dark")` now and whenever it changes.
export function watchTheme(changed) {
  const body = host();
  let last = "";
  const tell = () => {
    const dark = body ? body.classList.contains("dark-mode") : query.matches;
    const theme = dark ? "dark" : "light";
    document.documentElement.classList.toggle("dark", dark);
    if (theme !== last) changed(theme);
    last = theme;
  };
  if (body) new MutationObserver(tell).observe(body, { attributes: true, attributeFilter: ["class"] });
  query.addEventListener("change", tell);
  tell();
}

// Calls `reload` when TensorBoard's reload button is pressed or its own timer runs out.
export function watchReload(reload) {
  if (parent === window) return;
  const channel = new MessageChannel();
  channel.port1.onmessage = ({ data }) => {
    const { type, id, isReply } = JSON.parse(data);
    if (isReply) return;
    channel.port1.postMessage(JSON.stringify({ type, id, payload: null, error: null, isReply: true }));
    if (type === "experimental.DataReloaded") reload();
  };
  parent.postMessage("experimental.bootstrap", window.origin, [channel.port2]);
}
