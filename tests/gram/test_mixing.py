"""Calls that make values of neighbours along the axis that the examples are on."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import gradient_gram
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.mixing import along_examples
from tests.gram.test_alone import data, each, net
from tests.gram.test_scales import off

N = 4
KERNEL, WIDE = torch.ones(2, 3, 1, 3), torch.ones(2, 3, 3, 1)

CASES: list[tuple[Any, tuple[int, ...], tuple[Any, ...], dict[str, Any], int, bool]] = [
    # function, shape for one example, further arguments, by name, axis of the examples, expected
    (torch.softmax, (1, 5), (0,), {}, 0, True),
    (torch.softmax, (1, 5), (-1,), {}, 0, False),
    (Tensor.softmax, (7, 1, 5), (), {"dim": -2}, 1, True),
    (F.log_softmax, (7, 1, 5), (), {"dim": 0}, 1, False),
    (torch.flip, (1, 5), ((0, 1),), {}, 0, True),
    (torch.roll, (1, 5), (2, 1), {}, 0, False),
    (torch.roll, (1, 5), (2,), {"dims": 0}, 0, True),
    (F.normalize, (1, 5), (2.0, 0), {}, 0, True),
    (F.normalize, (1, 5), (), {"dim": 1}, 0, False),
    (F.layer_norm, (1, 5), ((5,),), {}, 0, False),
    (F.layer_norm, (5, 1, 3), ((1, 3),), {}, 1, True),
    (F.group_norm, (1, 6, 2), (2,), {}, 0, False),
    (F.group_norm, (2, 1, 5), (1,), {}, 1, True),
    (F.max_pool1d, (3, 1, 8), (2,), {}, 0, False),
    (F.max_pool2d, (2, 1, 8), ((3, 1),), {}, 1, True),
    (F.max_pool2d, (2, 1, 8), ((1, 3),), {}, 1, False),
    (F.avg_pool2d, (2, 8, 1), (), {"kernel_size": 3}, 2, True),
    (F.adaptive_avg_pool1d, (2, 3, 1), (1,), {}, 2, True),
    (torch.conv2d, (2, 3, 1, 8), (KERNEL,), {}, 2, False),
    (torch.conv2d, (2, 3, 1, 8), (WIDE,), {}, 2, True),
    (torch.conv2d, (1, 3, 6, 8), (WIDE,), {}, 0, False),
    (F.scaled_dot_product_attention, (2, 1, 8), (torch.ones(2, 1, 8), torch.ones(2, 1, 8)), {}, 1, True),
    (F.scaled_dot_product_attention, (1, 6, 8), (torch.ones(1, 6, 8), torch.ones(1, 6, 8)), {}, 0, False),
    (torch.tanh, (1, 5), (), {}, 0, False),
]


@pytest.mark.parametrize(("function", "shape", "more", "named", "axis", "expected"), CASES)
def test_the_axis_that_a_call_works_along(
    function: Any, shape: tuple[int, ...], more: tuple[Any, ...], named: dict[str, Any], axis: int, expected: bool
) -> None:
    one = torch.randn(shape)
    many = one.repeat_interleave(N, axis)
    call = Call(function, (one, *more), named, None)
    assert along_examples(call, function, (many, *more), named, N) == expected
    assert not along_examples(None, function, (many, *more), named, N)


@pytest.mark.parametrize(
    "how",
    [
        lambda x: x.softmax(0) + x,
        lambda x: F.layer_norm(x.T, (len(x),)).T,
        lambda x: F.avg_pool2d(x.view(1, -1, 6), (3, 1), stride=1, padding=(1, 0)).view(-1, 6),
        lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None])[0] + x,
        lambda x: torch.softmax(input=x, dim=0) + x,
        lambda x: torch.softmax(dim=0, input=x) + x,
        lambda x: torch.softmax(x, axis=0) + x,
        lambda x: torch.log_softmax(a=x, axis=0) + x,
        lambda x: F.scaled_dot_product_attention(key=x[None], value=x[None], query=x[None])[0] + x,
        lambda x: F.avg_pool2d(input=x.view(1, -1, 6), kernel_size=(3, 1), stride=1, padding=(1, 0)).view(-1, 6),
    ],
)
@pytest.mark.filterwarnings("ignore:stiffness of")
def test_examples_are_no_neighbours(how: Any) -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 6).double(), net()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(how(self.first(x)))

    torch.manual_seed(0)
    module = Beside()
    for seed in range(4):
        batch = data(seed)
        found, expected = (gradient_gram(module, batch, loss_fn=each, engine=e) for e in ("auto", "loop"))
        assert found.plan.fallbacks
        assert off(found, expected) < 1e-9
