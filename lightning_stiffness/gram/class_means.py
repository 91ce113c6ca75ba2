r"""Class matrix of cosine stiffness without a Gram: exact for any number of examples.

The mean over all pairs of two classes is an inner product of two sums of unit gradients,

.. math::
    u_a = \sum_{y_i = a} \frac{g_i}{|g_i|} \qquad
    C(a, b) = \frac{u_a \cdot u_b}{n_a n_b} \qquad
    C(a, a) = \frac{|u_a|^2 - n_a}{n_a (n_a - 1)}

where the :math:`n_a` pairs of an example with itself, each 1, are taken out of the diagonal. Each sum is one
backward pass with the examples' losses weighted by :math:`1 / |g_i|`. Memory: ``c · p`` numbers.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lightning_stiffness import arguments
from lightning_stiffness.gram import GradientGram, gram_of_examples
from lightning_stiffness.gram.batch import Batch, is_per_example, leaves, map_leaves
from lightning_stiffness.gram.choice import ParameterFilter, select_parameters
from lightning_stiffness.gram.loop import by_name, example_gradient, has_reentrant_checkpoint
from lightning_stiffness.gram.noise import Noise
from lightning_stiffness.gram.problem import Examples, LossFn, Problem
from lightning_stiffness.gram.product import accumulation_dtype
from lightning_stiffness.gram.state import kept_random_state, measuring, seeded

_AT_A_TIME = 512
"""Examples whose norms are found together."""


@dataclass(frozen=True)
class ClassSums:
    """Sums of unit gradients by class; see :func:`class_gradient_sums`."""

    sums: Tensor
    """:math:`u_a`, ``[c, p]``, float64."""
    counts: Tensor
    """Number of examples :math:`n_a` behind each, ``[c]``."""
    excluded: int
    """Number of examples left out, since their gradient is zero or not finite."""

    def matrix(self, other: "ClassSums | None" = None) -> Float[Tensor, "c c"]:
        """Class matrix of cosine stiffness.

        Args:
            other: sums over another set of examples, for the columns; by default the columns are the rows, and
                no example is paired with itself.

        Returns:
            Class matrix ``[c, c]``, dimensionless, in [-1, 1]; NaN where there is no pair.
        """
        columns = self if other is None else other
        total = self.sums @ columns.sums.T
        pairs = self.counts[:, None] * columns.counts[None, :]
        if other is None:
            total = total - torch.diag(self.counts).to(total.dtype)
            pairs = pairs - torch.diag(self.counts)
        return torch.where(pairs > 0, total / pairs, torch.nan).clamp(-1.0, 1.0)


def class_gradient_sums(
    module: nn.Module,
    batches: Iterable[Batch],
    *,
    loss_fn: LossFn,
    label_fn: Callable[[Batch], Int[Tensor, " n"]],
    num_classes: int,
    parameters: ParameterFilter = None,
    engine: str = "auto",
    memory_budget: int | None = None,
) -> ClassSums:
    r"""Sums of unit gradients by class, from which the class matrix of cosine stiffness follows exactly.

    For tens of thousands of examples, where a Gram of all pairs would not fit. (The definition is that of Fort et
    al., arXiv:1901.09491v3, section 2.3; sign stiffness has no such form.) Gradients as in
    :func:`lightning_stiffness.gradient_gram`; the module is afterwards what it was.

    Args:
        module: any ``nn.Module``, on any device.
        batches: batches of examples, on the module's device. One is held at a time; a few hundred examples in
            each are fastest.
        loss_fn: ``loss_fn(module, batch)`` → per-example losses ``[n]``; with their mean or sum instead every
            example takes a backward pass of its own.
        label_fn: ``label_fn(batch)`` → classes ``[n]``, integers from 0.
        num_classes: ``c``.
        parameters: which parameters to differentiate, as in :func:`lightning_stiffness.gradient_gram`.
        engine: how norms are found, as there.
        memory_budget: bytes for the gradients held at a time, as there.

    Returns:
        :class:`ClassSums`; ``.matrix()`` is the class matrix.

    Raises:
        ValueError: if labels are not one integer in ``[0, c)`` for each example, if an argument is of another kind
            than asked for, and as ``gradient_gram``.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> x, y = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0, 1])
        >>> sums = class_gradient_sums(
        ...     net, [(x, y)], loss_fn=lambda net, b: net(b[0])[:, 0], label_fn=lambda b: b[1], num_classes=2
        ... )
        >>> sums.matrix().tolist()
        [[1.0, 0.0], [0.0, nan]]
    """
    problem = Problem(arguments.network(module), arguments.loss(loss_fn), select_parameters(module, parameters))
    arguments.function("label_fn", label_fn, ["batch"], "a function of a batch that returns its classes [n]")
    num_classes = arguments.whole("num_classes", num_classes, 1)
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise ValueError(
            f"expected batches to be batches of examples, as a DataLoader or a list [(x, y)] gives them, got "
            f"{arguments.shown(batches)}"
        )
    device = problem.device
    width = sum(p.numel() * (2 if p.is_complex() else 1) for p in problem.parameters.values())
    sums = torch.zeros(num_classes, width, dtype=accumulation_dtype(device), device=device)
    counts = torch.zeros(num_classes, dtype=torch.long, device=device)
    excluded = done = 0
    with kept_random_state():
        base = int(torch.randint(2**31, ()))
    for batch in batches:
        labels = _checked_labels(label_fn(batch), len(Examples.of(batch)), num_classes)
        for start, size, piece in Examples.of(batch).pieces(_AT_A_TIME):
            of_piece = labels[start : start + size].to(device)
            with seeded(base + done):  # a loss that draws random numbers draws others than for the pieces before
                gram = gram_of_examples(
                    module,
                    Examples.of(piece),
                    loss_fn=loss_fn,
                    engine=engine if size > 1 else "loop",
                    memory_budget=memory_budget,
                    parameters=parameters,
                )
                norms = gram.norms.to(device)
                valid = torch.isfinite(norms) & (norms > 0)
                excluded += int((~valid).sum())
                for label in torch.unique(of_piece[valid]).tolist():
                    chosen = torch.nonzero(valid & (of_piece == label))[:, 0]
                    sums[label] += _unit_sum(replace(problem, noise=Noise()), piece, size, chosen, gram)
                    counts[label] += len(chosen)
            done += size
    return ClassSums(sums, counts, excluded)


def _unit_sum(problem: Problem, piece: Batch, size: int, chosen: Tensor, gram: GradientGram) -> Tensor:
    """Sum of the unit gradients of some examples of a batch, ``[p]``."""
    indices = chosen.tolist()
    within = gram.values[indices][:, indices]
    norms = gram.norms[indices]
    # By the Gram of these few examples the sum has this squared length, whatever way it is found.
    expected = float((within / norms[:, None] / norms[None, :]).sum())
    noise = problem.noise
    tensors = [leaf for _, leaf in leaves(piece) if isinstance(leaf, Tensor)]
    with measuring(problem.module, problem.losses, tensors) as kept:
        problem = replace(problem, module_kept=kept)
        noise.seed(0, 1)
        found = _weighted(problem, _picked(piece, size, chosen), norms)
        if noise.woke() and found is not None:  # the norms are those of other draws: only if none plays a part
            noise.seed(0, 2)
            again = _weighted(problem, _picked(piece, size, chosen), norms)
            if again is None or float((again - found).abs().max()) > 1e-6 * float(found.abs().max()):
                found = None
        if found is not None and abs(float(found @ found) - expected) <= 1e-4 * len(indices) ** 2:
            return found
        # A loss for the whole batch, or losses that depend on which batch an example is in, or draw numbers.
        noise.drawn = True
        total: Tensor | None = None
        for i in indices:
            example = _picked(piece, size, chosen.new_tensor([i]))
            gradient = _flat(example_gradient(problem, example, i))
            unit: Tensor = gradient / torch.linalg.vector_norm(gradient)
            total = unit if total is None else total + unit
    assert total is not None  # a class has at least one example here
    return total


def _weighted(problem: Problem, batch: Batch, norms: Tensor) -> Tensor | None:
    """Gradient of the losses weighted by 1 / norm, ``[p]``; None where the loss is not one for each example."""
    with problem.kept():
        with problem.watched():
            losses = problem.loss_fn(problem.module, problem.given(batch))
        if losses.shape != norms.shape or not losses.requires_grad or has_reentrant_checkpoint(losses):
            return None
        # Over the smallest norm first: float32 cannot hold the reciprocal of every norm that it holds.
        weights = (norms.min() / norms).to(losses)
        gradients = torch.autograd.grad(
            (losses * weights).sum(), list(problem.parameters.values()), allow_unused=True
        )
    return _flat(by_name(problem, gradients)) / norms.min().to(losses.device)


def _flat(gradients: dict[str, Tensor]) -> Tensor:
    real = (torch.view_as_real(g.resolve_conj()) if g.is_complex() else g for g in gradients.values())
    return torch.cat([g.reshape(-1).to(accumulation_dtype(g.device)) for g in real])


def _picked(batch: Batch, size: int, chosen: Tensor) -> Batch:
    """Some examples of a batch, in the batch's own structure."""

    def pick(leaf: object) -> object:
        if not is_per_example(leaf, size):
            return leaf
        if isinstance(leaf, Tensor):
            return leaf[chosen.to(leaf.device)]
        assert isinstance(leaf, list)
        return [leaf[i] for i in chosen.tolist()]

    return map_leaves(pick, batch)


def _checked_labels(labels: Tensor, size: int, num_classes: int) -> Tensor:
    if not isinstance(labels, Tensor) or labels.shape != (size,) or labels.is_floating_point():
        got = f"{labels.dtype} {list(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"expected label_fn to return integer labels [{size}], got {got}")
    if not (int(labels.min()) >= 0 and int(labels.max()) < num_classes):
        raise ValueError(
            f"expected labels in [0, {num_classes}), got values from {int(labels.min())} to {int(labels.max())}"
        )
    return labels
