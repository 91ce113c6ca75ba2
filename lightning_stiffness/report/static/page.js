// The page of a report: what the tab shows, of the runs that the file holds. Until it runs, and without it, the file
// shows verdicts and numbers.

import { App } from "./app.js";
import { h } from "./dom.js";
import { MOST } from "./model.js";
import { report } from "./transport.js";

async function render() {
  if (typeof DecompressionStream === "undefined") {
    document.body.prepend(h("p", { class: "status error" },
      "This browser is from before 2023 and cannot unpack the pictures: here is what can be said without."));
    return;
  }
  const { title, about, listed } = report();
  const app = new App({ live: false });
  app.model.selected = listed.runs.slice(0, MOST).map((run) => run.name);
  const header = h("header", { class: "report" }, h("h1", {}, title), about.map((line) => h("p", {}, line)));
  document.querySelector("main.plain").replaceWith(header, app.element);
  await app.start();
}

render();
