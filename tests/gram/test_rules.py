"""Each family of rules: the form in which it holds per-example gradients, and those gradients one by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness.gram.choice import select_parameters
from lightning_stiffness.gram.collect import Collector
from lightning_stiffness.gram.loop import example_gradient
from lightning_stiffness.gram.parts import Convolution, Dense, Lookup, Outer
from lightning_stiffness.gram.problem import Examples, Problem
from lightning_stiffness.gram.reference import refer

from .cases.registry import Call

N = 5

SEQUENCE, IMAGE, INDEX = (N, 3, 4), (N, 4, 6, 6), None

RULES: dict[str, tuple[Callable[[Any, Tensor], Tensor], dict[str, tuple[int, ...]], Any, dict[str, type]]] = {
    "linear": (lambda m, x: F.linear(x, m.w, m.b), {"w": (2, 4), "b": (2,)}, SEQUENCE, {"w": Outer, "b": Dense}),
    "x W": (lambda m, x: x @ m.w, {"w": (4, 2)}, SEQUENCE, {"w": Outer}),
    "W x": (lambda m, x: m.w @ x, {"w": (2, 3)}, SEQUENCE, {"w": Outer}),
    "addmm": (
        lambda m, x: torch.addmm(m.b, x, m.w, beta=2, alpha=3),
        {"w": (4, 2), "b": (2,)},
        (N, 4),
        {"w": Outer, "b": Dense},
    ),
    "einsum": (lambda m, x: torch.einsum("nti,oi->nto", x, m.w), {"w": (2, 4)}, SEQUENCE, {"w": Outer}),
    "convolution": (
        lambda m, x: F.conv2d(x, m.w, m.b, stride=2, padding=1, groups=2),
        {"w": (4, 2, 3, 3), "b": (4,)},
        IMAGE,
        {"w": Convolution, "b": Dense},
    ),
    "even kernel, same size": (
        lambda m, x: F.conv2d(x, m.w, padding="same", dilation=2),
        {"w": (3, 4, 2, 2)},
        IMAGE,
        {"w": Convolution},
    ),
    "transposed convolution": (
        lambda m, x: F.conv_transpose2d(x, m.w, stride=2, output_padding=1),
        {"w": (4, 3, 3, 3)},
        IMAGE,
        {"w": Convolution},
    ),
    "embedding": (lambda m, x: F.embedding(x, m.w, padding_idx=1), {"w": (7, 3)}, INDEX, {"w": Lookup}),
    "embedding bag": (lambda m, x: F.embedding_bag(x, m.w, mode="mean"), {"w": (7, 3)}, INDEX, {"w": Lookup}),
    "layer norm": (lambda m, x: F.layer_norm(x, (4,), m.w, m.b), {"w": (4,), "b": (4,)}, SEQUENCE, {"w": Dense}),
    "group norm": (lambda m, x: F.group_norm(x, 2, m.w, m.b), {"w": (4,), "b": (4,)}, IMAGE, {"w": Dense}),
    "prelu": (lambda m, x: F.prelu(x, m.w), {"w": (4,)}, IMAGE, {"w": Dense}),
    "sum": (lambda m, x: 2 - torch.sub(x, m.w, alpha=3), {"w": (1, 4)}, SEQUENCE, {"w": Dense}),
    "product": (lambda m, x: m.w * x, {"w": (3, 1)}, SEQUENCE, {"w": Dense}),
    "repeated": (
        lambda m, x: torch.cat([m.w.expand(len(x), -1, -1), x], 1),
        {"w": (1, 2, 4)},
        SEQUENCE,
        {"w": Dense},
    ),
    "any other": (lambda m, x: F.bilinear(x, x, m.w), {"w": (2, 4, 4)}, SEQUENCE, {"w": Dense}),
}


@pytest.mark.parametrize("name", RULES)
def test_gradients_one_by_one(name: str) -> None:
    torch.manual_seed(0)
    forward, shapes, size, forms = RULES[name]
    module = Call(forward, **shapes).double()
    x = torch.randint(7, (N, 4)) if size is None else torch.randn(size, dtype=torch.float64)

    def loss(module: Any, batch: tuple[Tensor]) -> Tensor:
        return torch.sin(module(batch[0])).flatten(1).sum(1)

    problem, examples = Problem(module, loss, select_parameters(module)), Examples.of((x,))
    collector = Collector(problem, refer(problem, examples, 1))
    collected = collector.collect(list(shapes), examples, 0, N)
    assert not collector.failures
    for parameter in shapes:
        (part,) = collected.parts[parameter][0]
        assert isinstance(part, forms.get(parameter, Dense))
        expected = torch.stack([example_gradient(problem, examples.one(i))[parameter].flatten() for i in range(N)])
        torch.testing.assert_close(part.dense(0, part.rows), expected, rtol=1e-12, atol=1e-12)
        middle = part.rows // 2  # and some of its rows
        some = part.take(torch.tensor([3, 0])).dense(middle, part.rows)
        rows = expected.view(N, part.rows, -1)[[3, 0], middle:].flatten(1)
        torch.testing.assert_close(some, rows, rtol=1e-12, atol=1e-12)


def test_convolution_unfolded_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    x, d = torch.randn(N, 2, 3, 7).double(), torch.randn(N, 2, 4, 3).double()
    part = Convolution(x, d, (4, 3, 3), (2,), (1,), (2,), 1)
    unfolded = part.unfolded()
    torch.testing.assert_close(unfolded.dense(0, 4), part.dense(0, 4), rtol=1e-12, atol=1e-12)
