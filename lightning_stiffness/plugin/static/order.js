// The order in which classes are shown: positions → classes.

export function given(size) {
  return Array.from({ length: size }, (_, i) => i);
}

export function byGroup(groups) {
  return given(groups.length).sort((a, b) => groups[a] - groups[b] || a - b);
}

// Classes that act alike side by side: average linkage on 1 − stiffness (made symmetric; missing counts as 0).
// A chain of nearest neighbours finds the same tree as merging the closest pair each time, in n² instead of n³.
export function clustered(matrix, size) {
  const far = new Float64Array(size * size);
  for (let a = 0; a < size; a++) {
    for (let b = 0; b < size; b++) {
      const mean = (matrix[a * size + b] + matrix[b * size + a]) / 2;
      far[a * size + b] = 1 - (Number.isNaN(mean) ? 0 : mean);
    }
  }
  const between = far.slice();
  const leaves = given(size).map((i) => [i]);
  const active = new Set(given(size));
  const chain = [];
  while (active.size > 1) {
    if (!chain.length) chain.push(active.values().next().value);
    const last = chain[chain.length - 1];
    const before = chain[chain.length - 2];
    let nearest = before ?? -1;
    let least = before === undefined ? Infinity : between[last * size + before];
    for (const other of active) {
      if (other !== last && between[last * size + other] < least) {
        nearest = other;
        least = between[last * size + other];
      }
    }
    if (nearest !== before) {
      chain.push(nearest);
      continue;
    }
    chain.length -= 2;
    const [m, n] = [leaves[last].length, leaves[before].length];
    for (const other of active) {
      const joined = (m * between[last * size + other] + n * between[before * size + other]) / (m + n);
      between[last * size + other] = between[other * size + last] = joined;
    }
    leaves[last] = join(leaves[last], leaves[before], far, size);
    active.delete(before);
  }
  const [root] = active;
  return root === undefined ? [] : leaves[root];
}

// Of the four ways to put two rows of leaves end to end, the one whose touching ends are nearest.
function join(first, second, far, size) {
  const turned = [...first].reverse();
  const other = [...second].reverse();
  let best = null;
  let least = Infinity;
  for (const [left, right] of [[first, second], [first, other], [turned, second], [turned, other]]) {
    const gap = far[left[left.length - 1] * size + right[0]];
    if (gap < least) [best, least] = [[...left, ...right], gap];
  }
  return best;
}
