"""Parts of parameters, piece by piece of the examples → their inner products, added to the Gram."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_stiffness.gram.collected import Collected
from lightning_stiffness.gram.contract import add_dense, add_layers, add_outer
from lightning_stiffness.gram.lookup import add_lookup
from lightning_stiffness.gram.multiples import Multiple, add_multiples, parted
from lightning_stiffness.gram.parts import Convolution, Dense, Lookup, Outer, Part
from lightning_stiffness.gram.plan import SMALL, Choice, Step, choose
from lightning_stiffness.gram.problem import Problem
from lightning_stiffness.gram.total import Total


def multiply(problem: Problem, collected: Collected, names: list[str], total: Total, slab: int) -> list[Step]:
    """Add the Gram of the parameters ``names``.

    Args:
        problem: where the parameters are from.
        collected: their parts; emptied on the way.
        names: which of them.
        total: what to add to.
        slab: bytes for gradients formed at a time.

    Returns:
        What was done for each parameter.
    """
    steps = []
    n, pairs = sum(collected.sizes), total.pairs()
    small: list[Tensor] = []
    layers: dict[torch.dtype, list[tuple[Outer, bool]]] = {}
    # A bias rides along with its weight only where the products of factors are taken.
    biases = {
        weight: bias
        for weight, bias in _biases(collected, names).items()
        if _choice(collected.parts[weight], n, pairs).formula == "factors"
    }
    for name in names:
        if name in biases.values():
            continue
        pieces = collected.parts.pop(name)
        shape = str(list(problem.parameters[name].shape))
        used = ", ".join(f"{count}× {f}" if count > 1 else f for f, count in collected.uses[name].items())
        sample = next((parts for parts in pieces if parts), None)
        if sample is None:
            steps.append(Step((name,), used or "unused", "0", shape, 0.0, 0))
            continue
        parameter = problem.parameters[name]
        pieces = [parts or [_zeros(parameter, size)] for parts, size in zip(pieces, collected.sizes, strict=True)]
        held = sum(part.bytes_per_example() * part.n for parts in pieces for part in parts)
        pieces, multiples = parted(pieces)
        if multiples:
            add_multiples(total, pieces, collected.sizes, multiples, slab)
            if not any(pieces):
                steps.append(Step((name,), used, Multiple.formula, shape, 2.0 * pairs, held))
                continue
        choice = _choice(pieces, n, pairs)
        owners = (name, biases[name]) if name in biases else (name,)
        if choice.formula == "dense" and parameter.numel() <= SMALL:
            small.append(dense_of(pieces, 0, pieces[0][0].rows))
            if sum(s.numel() * s.element_size() for s in small) > slab // 2:
                _add_small(small, total, slab)
        elif choice.formula == "dense":
            _add_dense(pieces, total, slab)
        elif choice.formula == "lookup":
            add_lookup(total, _lookup(pieces), slab)
        else:
            outer, ones = _outer(pieces), name in biases
            if choice.positions == 1 and outer.left.dtype == outer.right.dtype in (torch.float32, torch.float64):
                layers.setdefault(outer.left.dtype, []).append((outer, ones))
            else:
                add_outer(total, outer, ones, slab)
            del outer
        if choice.positions > 1:
            shape += f", T={choice.positions}"
        shown = f"{choice.shown} + {Multiple.formula}" if multiples else choice.shown
        steps.append(Step(owners, used, shown, shape, choice.flops, held))
        del pieces
    _add_small(small, total, slab)
    for group in layers.values():
        add_layers(total, group, slab)
    return steps


def _add_small(small: list[Tensor], total: Total, slab: int) -> None:
    """Add small gradients side by side, and empty the list."""
    if small:
        add_dense(total, torch.cat(small, 1) if len(small) > 1 else small[0], slab)
        small.clear()


def _zeros(parameter: Tensor, n: int) -> Part:
    rows = parameter.shape[0] if parameter.ndim else 1
    return Dense(torch.zeros(n, parameter.numel(), dtype=parameter.dtype, device=parameter.device), rows)


def _biases(collected: Collected, names: list[str]) -> dict[str, str]:
    """Weight → bias, for linear layers whose bias gradient is the left factor of the weight's."""
    pointers = {}
    for name in names:
        parts = [p[0] if len(p) == 1 else None for p in collected.parts[name]]
        if all(isinstance(p, Dense) and p.gradient.ndim == 2 for p in parts):
            pointers[tuple(p.gradient.data_ptr() for p in parts if isinstance(p, Dense))] = name
    found: dict[str, str] = {}
    for name in names:
        outers = [p[0] if len(p) == 1 else None for p in collected.parts[name]]
        if outers and all(isinstance(p, Outer) and p.positions == 1 for p in outers):
            bias = pointers.get(tuple(p.left.data_ptr() for p in outers if isinstance(p, Outer)))
            if bias is not None and bias not in found.values() and collected.parts[bias][0][0].n > 0:
                same = collected.parts[bias][0][0].rows == outers[0].rows  # type: ignore[union-attr]
                if same:
                    found[name] = bias
    return found


def chosen(pieces: list[list[Part]], n: int, pairs: int) -> Choice | None:
    """How the inner products of one parameter's gradients are worked out; None where there are no gradients."""
    held = [parts for parts in pieces if parts]
    return _choice(held, n, pairs) if held else None


def _choice(pieces: list[list[Part]], n: int, pairs: int) -> Choice:
    kinds = {tuple(type(part) for part in parts) for parts in pieces}
    if len(kinds) == 1:
        choice = choose(pieces[0], n, pairs)
        if choice.formula != "factors" or len({_positions(parts) for parts in pieces}) == 1:
            return choice
    rows, columns = pieces[0][0].rows, pieces[0][0].columns
    return Choice("dense", "G Gᵀ", 2.0 * pairs * rows * columns, 0)


def _positions(parts: Sequence[Part]) -> int:
    return sum(part.positions for part in parts if isinstance(part, Outer | Convolution))


def dense_of(pieces: list[list[Part]], low: int, high: int) -> Tensor:
    """Rows of the dense gradients of all examples, ``[n, (high − low)·C]``."""
    formed = []
    for parts in pieces:
        gradient = parts[0].dense(low, high)
        for part in parts[1:]:
            gradient = gradient + part.dense(low, high)
        formed.append(gradient)
    return formed[0] if len(formed) == 1 else torch.cat(formed)


def _add_dense(pieces: list[list[Part]], total: Total, slab: int) -> None:
    first = pieces[0][0]
    n = sum(parts[0].n for parts in pieces)
    row = max(1, n * first.columns * first.tensors()[-1].element_size())
    count = max(1, math.ceil(first.rows * row / slab))
    step = max(1, math.ceil(first.rows / count))
    for low in range(0, first.rows, step):
        add_dense(total, dense_of(pieces, low, min(low + step, first.rows)), slab)


def _lookup(pieces: list[list[Part]]) -> Lookup:
    lookups = [[part for part in parts if isinstance(part, Lookup)] for parts in pieces]
    width = max(sum(part.positions for part in parts) for parts in lookups)
    index, delta = [], []
    for parts in lookups:
        i, d = torch.cat([p.index for p in parts], 1), torch.cat([p.delta for p in parts], 1)
        short = width - i.shape[1]
        if short:  # nothing is added to row 0 by what fills up
            i = torch.nn.functional.pad(i, (0, short))
            d = torch.nn.functional.pad(d, (0, 0, 0, short))
        index.append(i)
        delta.append(d)
    return Lookup(torch.cat(index), torch.cat(delta), lookups[0][0].rows)


def _outer(pieces: list[list[Part]]) -> Outer:
    lefts, rights = [], []
    for parts in pieces:
        outers = [part.unfolded() if isinstance(part, Convolution) else part for part in parts]
        lefts.append(_joined([o.left for o in outers if isinstance(o, Outer)], 1))
        rights.append(_joined([o.right for o in outers if isinstance(o, Outer)], 1))
    return Outer(_joined(lefts, 0), _joined(rights, 0))


def _joined(tensors: list[Tensor], axis: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, axis)
