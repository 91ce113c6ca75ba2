// Numbers and names as people read them. The words for effects are those of the figures.

export const BLOCKS = {
  "train-val": ["training → unseen", "Does a step on a training example help unseen ones? (train-val)"],
  "train-train": ["training → training", "Does it help other training examples? (train-train)"],
  "val-val": ["unseen → unseen", "Would a step on an unseen example help other unseen ones? (val-val)"],
};

export const MEASURES = {
  cos: ["how much", "cosine of the two gradients (cos)", "cosine stiffness"],
  sign: ["whether at all", "only whether it helps or hurts (sign)", "sign stiffness"],
};

export const SERIES = {
  within_class: "same class",
  between_class: "other classes",
  within_superclass: "other class, same group",
  between_superclass: "other groups",
  overall: "any two examples",
};

const SETS = { train: "a training example", val: "an unseen example" };

// "train-val" → what the rows and the columns of its matrix stand for.
export function sides(block) {
  const [first, second] = block.split("-");
  const other = first === second ? (SETS[second] ?? second).replace(/^an? /, "another ") : SETS[second] ?? second;
  return [SETS[first] ?? first, other];
}

export function isNumber(value) {
  return value !== null && value !== undefined && Number.isFinite(value);
}

export function number(value, digits = 2) {
  if (!isNumber(value)) return "–";
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

export function count(value) {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

// Three digits, whatever the unit.
export function length(value) {
  return isNumber(value) ? String(Number(value.toPrecision(3))).replace("-", "−") : "none";
}

export function effect(value) {
  if (Math.abs(value) < 0.02) return "hardly affects";
  const verb = value > 0 ? "helps" : "hurts";
  const size = Math.abs(value);
  return size >= 0.5 ? `strongly ${verb}` : size >= 0.1 ? verb : `slightly ${verb}`;
}

export function interval(low, high, digits = 2) {
  return isNumber(low) && isNumber(high) ? `95% interval ${number(low, digits)} to ${number(high, digits)}` : "";
}

// The critical length with its interval, which may have no upper end.
export function lengthRange(xi) {
  if (!isNumber(xi?.low)) return "";
  return isNumber(xi.high) ? `${length(xi.low)} to ${length(xi.high)}` : xi.open ? `${length(xi.low)} or more` : "";
}

export function moment(run, index) {
  return `step ${count(run.steps[index])}, epoch ${count(run.epochs[index])}`;
}
