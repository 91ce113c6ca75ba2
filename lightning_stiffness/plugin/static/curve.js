// Stiffness against distance: how far a step reaches, with the fitted line and the critical length ξ.

import { svg } from "./dom.js";
import { gridX, gridY, linear, path, ticks } from "./scale.js";
import { isNumber, isRange, length, number, pairs, ranged, rangedLength } from "./words.js";

const LEFT = 58;
const TOP = 8;

// What the picture says, in words: the same as in the figures.
export function curveWords(curve, xi) {
  if (!curve) return "No distances were measured.";
  if (!xi) return "";
  if (!isNumber(xi.value)) return xi.reason ? `No ξ: ${xi.reason}.` : "No ξ: the fitted line gives none.";
  const { value, range } = rangedLength(xi);
  const spread = range ? ` (95%: ${range})` : "";
  if (!xi.extrapolated) return `ξ = ${value}${spread}: examples nearer to each other than ξ improve together.`;
  const middle = (curve.edges[0] + curve.edges[curve.edges.length - 1]) / 2;
  return xi.value > middle
    ? `ξ ≈ ${value}${spread}, beyond every pair measured: all improve together.`
    : `ξ ≈ ${value}${spread}, below every distance measured: none improve together.`;
}

// `range`: the stiffness that the vertical axis spans, the same at every step so that the picture does not jump.
export function drawCurve(curve, xi, { range, reach, distance, measure, width }) {
  const height = Math.round(Math.min(400, Math.max(270, 0.75 * width)));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "chart", role: "img" });
  if (!curve) return picture;
  const RIGHT = width - 8;
  const STRIP = [height - 92, height - 44]; // counts the pairs
  const BOTTOM = STRIP[0] - 20; // of the curve
  picture.setAttribute("aria-label", `Stiffness against distance. ${curveWords(curve, xi)}`);
  const x = linear(reach, [LEFT, RIGHT]);
  const y = linear(range, [BOTTOM, TOP]);
  const held = (value) => Math.min(range[1], Math.max(range[0], value));
  picture.append(...gridY(ticks(...range, 5), y, LEFT, RIGHT).flat());
  picture.append(...gridX(ticks(...reach, 6), x, TOP, STRIP[1]).flat());
  const here = xi && isNumber(xi.value) && xi.value >= reach[0] && xi.value <= reach[1];
  if (here) {
    picture.append(svg("rect", { class: "reach", x: LEFT, y: TOP, width: x(xi.value) - LEFT, height: BOTTOM - TOP }));
  }
  if (xi && isNumber(xi.slope) && isNumber(xi.intercept)) {
    const ends = reach.map((place) => [place, xi.intercept + xi.slope * place]);
    const clip = clipped(ends, range);
    if (clip) picture.append(svg("path", { class: "fit", d: path(clip.map(([a, b]) => [x(a), y(b)])) }));
  }
  const most = Math.max(1, ...curve.count);
  const counted = linear([0, most], [STRIP[1], STRIP[0]]);
  curve.mean.forEach((mean, i) => {
    const middle = x((curve.edges[i] + curve.edges[i + 1]) / 2);
    const [left, right] = [x(curve.edges[i]), x(curve.edges[i + 1])];
    const top = counted(curve.count[i]);
    if (curve.count[i] > 0) {
      const bar = { class: "count", x: left + 0.5, y: top, width: Math.max(1, right - left - 1), height: STRIP[1] - top };
      picture.append(svg("rect", bar));
    }
    if (!isNumber(mean)) return;
    const [low, high] = [curve.low[i], curve.high[i]];
    const known = isRange(low, high);
    if (known) {
      const ends = { x1: middle, x2: middle, y1: y(held(low)), y2: y(held(high)) };
      picture.append(svg("line", { class: "spread", ...ends }));
    }
    const { value, range: around } = ranged(mean, low, high, 3);
    const told = `distance ${number((curve.edges[i] + curve.edges[i + 1]) / 2)}: ${value}`;
    const spread = around && `, 95% interval ${around}`;
    const title = svg("title", {}, `${told}${spread}, ${pairs(curve.count[i])}`);
    const dot = { class: known ? "dot" : "dot hollow", cx: middle, cy: y(held(mean)), r: 3.5 };
    picture.append(svg("circle", dot, title));
  });
  if (here) {
    picture.append(svg("line", { class: "xi", x1: x(xi.value), x2: x(xi.value), y1: TOP, y2: BOTTOM }));
    const end = x(xi.value) > RIGHT - 70;
    const label = { class: "xi-label", x: x(xi.value) + (end ? -6 : 6), y: TOP + 13, "text-anchor": end ? "end" : "start" };
    picture.append(svg("text", label, `ξ = ${rangedLength(xi).value}`));
  }
  picture.append(
    svg("text", { class: "axis", x: LEFT, y: STRIP[0] - 5 }, "pairs"),
    svg("text", { class: "axis", x: (LEFT + RIGHT) / 2, y: height - 8, "text-anchor": "middle" }, distance),
    svg("text", { class: "axis", transform: `translate(13 ${(TOP + BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" },
      `mean ${measure}`),
  );
  return picture;
}

// The piece of a line that lies within the vertical range.
function clipped([[x1, y1], [x2, y2]], [low, high]) {
  const at = (y) => x1 + ((y - y1) / (y2 - y1)) * (x2 - x1);
  const end = ([x, y]) => (y < low ? [at(low), low] : y > high ? [at(high), high] : [x, y]);
  if (Math.max(y1, y2) < low || Math.min(y1, y2) > high) return null;
  return [end([x1, y1]), end([x2, y2])];
}

// Ranges of both axes over all curves that are shown together.
export function curveRanges(curves, lengths) {
  const known = curves.filter(Boolean);
  if (!known.length) return [[-1, 1], [0, 1]];
  const means = known.flatMap((curve) => curve.mean.filter(isNumber));
  const low = Math.min(0, ...means);
  const high = Math.max(0, ...means);
  const spare = Math.max(0.02, 0.08 * (high - low));
  const edges = known.flatMap((curve) => [curve.edges[0], curve.edges[curve.edges.length - 1]]);
  const [from, to] = [Math.min(...edges), Math.max(...edges)];
  const near = lengths.filter((xi) => xi && isNumber(xi.value) && xi.value > 0 && xi.value < to + 0.25 * (to - from));
  return [
    [Math.max(-1.05, low - spare), Math.min(1.05, high + spare)],
    [Math.min(from, ...near.map((xi) => xi.value)), Math.max(to, ...near.map((xi) => xi.value)) * 1.01],
  ];
}
