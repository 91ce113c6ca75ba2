"""Arguments by name, in the places that they have."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import get_testing_overrides

from lightning_stiffness.gram import gradient_gram, placing
from lightning_stiffness.gram.placing import by_place
from tests.gram.test_alone import data, net
from tests.gram.test_scales import off

X, Y, Z = (torch.full((1,), value) for value in (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "by", "left"),
    [
        (torch.mul, (), {"other": Y, "input": X}, (X, Y), {}),
        (torch.mul, (), {"x2": Y, "x1": X}, (X, Y), {}),
        (torch.mul, (), {"other": 2.0, "input": X}, (X, 2.0), {}),
        (torch.mul, (X,), {"other": Y}, (X,), {"other": Y}),
        (torch.softmax, (), {"input": X, "dim": 0}, (X,), {"dim": 0}),
        (torch.sum, (), {"a": X, "axis": 0}, (X,), {"dim": 0}),
        (Tensor.mean, (X,), {"axis": 0}, (X,), {"dim": 0}),
        (torch.addmm, (), {"mat2": Z, "alpha": 2, "input": X, "mat1": Y}, (X, Y, Z), {"alpha": 2}),
        (torch.cat, (), {"tensors": [X, Y], "dim": 0}, ([X, Y],), {"dim": 0}),
        (torch.where, (X,), {"x": Y, "y": Z}, (X,), {"x": Y, "y": Z}),
        (torch.zeros, (), {"size": (2, 3)}, (), {"size": (2, 3)}),
        (by_place, (), {"input": X, "axis": 1}, (), {"input": X, "axis": 1}),
    ],
)
def test_inputs_come_to_their_places(function: Any, args: Any, kwargs: Any, by: Any, left: Any) -> None:
    given = dict(kwargs)
    placed, named = by_place(function, args, kwargs)
    assert list(map(id, placed)) == list(map(id, by)) or placed == by
    assert named.keys() == left.keys()
    assert all(named[name] is left[name] for name in left)
    assert kwargs == given


def test_torchs_list_has_the_order_of_its_functions() -> None:
    """Of those in Python, which say it themselves; a few that no network calls have another there."""
    known = {function: placing._names(function) for function in get_testing_overrides()}
    compared = 0
    for function in vars(F).values():
        if getattr(function, "__module__", "") != F.__name__ or not known.get(function):
            continue
        own = [name.removeprefix("_") for name in inspect.signature(function).parameters]
        names = [name.removeprefix("_") for name in known[function]]
        if own == ["args", "kwargs"]:
            continue
        settings = {"return_indices", "ceil_mode"}  # behind the inputs
        pairs = [pair for pair in zip(names, own, strict=False) if not settings & {*pair}]
        assert all(one == other for one, other in pairs), function
        compared += 1
    assert compared > 60


@pytest.mark.parametrize(
    "power",
    [
        lambda loss: torch.square(input=loss),
        lambda loss: torch.pow(input=loss, exponent=2),
        lambda loss: torch.pow(exponent=3.0, input=loss),
        lambda loss: torch.abs(input=loss),
        lambda loss: torch.mul(other=2.0, input=loss),
    ],
)
def test_what_is_made_of_a_mean_by_name(power: Any) -> None:
    """It is followed as by place: no example counts with another sign."""

    def loss_fn(module: torch.nn.Module, batch: Any) -> Tensor:
        return power(F.mse_loss(module(batch[0]), batch[0][:, :3]))

    batch, module = data(), net()
    found = gradient_gram(module, batch, loss_fn=loss_fn)
    assert not found.plan.fallbacks
    expected = gradient_gram(module, batch, loss_fn=loss_fn, engine="loop")
    cosines = [gram.values / gram.norms[:, None] / gram.norms for gram in (found, expected)]
    torch.testing.assert_close(*cosines)


def test_layers_by_name() -> None:
    weight = torch.nn.Parameter(torch.randn(6, 6, dtype=torch.float64))
    module = net()
    module.register_parameter("extra", weight)

    def loss_fn(module: torch.nn.Module, batch: Any) -> Tensor:
        hidden = torch.nn.functional.linear(weight=module.extra, input=batch[0])
        hidden = torch.addmm(mat2=module.extra, input=hidden, mat1=hidden, beta=0.5)
        hidden = torch.matmul(other=module.extra, input=hidden)
        return F.cross_entropy(module.forward(hidden), batch[1], reduction="none")

    found = gradient_gram(module, data(), loss_fn=loss_fn)
    assert not found.plan.fallbacks
    assert off(found, gradient_gram(module, data(), loss_fn=loss_fn, engine="loop")) < 1e-12
