// What TensorBoard loads into the frame below the tab; it calls render().

import { App } from "./app.js";

export async function render() {
  document.documentElement.lang = "en";
  document.title = "Stiffness";
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = new URL("style.css", import.meta.url).href;
  const styled = new Promise((done) => {
    style.onload = style.onerror = done;
  });
  document.head.append(style);
  await styled; // sizes and colours are read from it
  const app = new App();
  document.body.replaceChildren(app.element);
  await app.start();
}
