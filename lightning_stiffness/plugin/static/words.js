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

const SAME = 1e-6; // as a share of what an interval is of: less than that is rounding

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

// Three digits or more, whatever the unit.
export function length(value, digits = 3) {
  return isNumber(value) ? String(Number(value.toPrecision(digits))).replace("-", "−") : "none";
}

export function effect(value) {
  if (Math.abs(value) < 0.02) return "hardly affects";
  const verb = value > 0 ? "helps" : "hurts";
  const size = Math.abs(value);
  return size >= 0.5 ? `strongly ${verb}` : size >= 0.1 ? verb : `slightly ${verb}`;
}

// `kept` signs of a name: `share` of them from its beginning, the others from its end.
export function shortened(name, kept, share = 0.5) {
  const signs = [...name];
  const first = Math.round(kept * share);
  const rest = kept - first;
  return `${signs.slice(0, first).join("").trimEnd()}…${rest ? signs.slice(-rest).join("").trimStart() : ""}`;
}

// Whether there is an interval. Equal ends come from resamples that had nothing to choose from, as of one pair.
export function isRange(low, high) {
  return isNumber(low) && isNumber(high) && high - low > SAME * Math.max(1, Math.abs(high));
}

// A mean and its interval, with as many decimals as it takes to see that the ends differ: as in the figures.
export function ranged(value, low, high, least = 2) {
  if (!isRange(low, high)) return { value: number(value, least), range: "" };
  const digits = Math.max(least, Math.ceil(Math.log10(2 / (high - low)) - 1e-9));
  return { value: number(value, digits), range: `${number(low, digits)} to ${number(high, digits)}` };
}

// The same for a critical length, whose interval may have no upper end.
export function rangedLength(xi) {
  if (!isNumber(xi?.low) || !isRange(xi.low, xi.high)) {
    return { value: length(xi?.value), range: isNumber(xi?.low) && xi.open ? `${length(xi.low)} or more` : "" };
  }
  let digits = 3;
  while (digits < 8 && length(xi.low, digits) === length(xi.high, digits)) digits++;
  return { value: length(xi.value, digits), range: `${length(xi.low, digits)} to ${length(xi.high, digits)}` };
}

// "1 pair", "2 pairs".
export function pairs(number) {
  return `${count(number)} ${number === 1 ? "pair" : "pairs"}`;
}

// A checkpoint may not tell its epoch.
export function moment(run, index) {
  const epoch = run.epochs[index];
  return `step ${count(run.steps[index])}${isNumber(epoch) ? `, epoch ${count(epoch)}` : ""}`;
}
