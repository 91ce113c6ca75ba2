"""Gradients of one example in a batch and alone: the same, or nearly, or not."""

import pytest
import torch
from torch import Tensor, nn

from lightning_stiffness.gram.parts import Convolution, Dense, Lookup, Outer, Part
from lightning_stiffness.gram.scaled import Weighted
from lightning_stiffness.gram.vectors import same_vectors

N, ROW = 5, 3


def parts(dtype: torch.dtype) -> dict[str, tuple[list[Part], tuple[int, ...]]]:
    """Parts of every kind, and the shape of the parameter that they are gradients of."""
    torch.manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype)

    once, often = Outer(draw(N, 1, 4), draw(N, 1, 6)), Outer(draw(N, 3, 4), draw(N, 3, 6))
    index = torch.randint(0, 7, (N, 3))
    image = Convolution(draw(N, 1, 2, 6, 6), draw(N, 1, 4, 6, 6), (4, 2, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    return {
        "once": ([once], (4, 6)),
        "often": ([often], (4, 6)),
        "dense": ([Dense(draw(N, 24), 4)], (4, 6)),
        "bias": ([Dense(draw(N, 4))], (4,)),
        "lookup": ([Lookup(index, draw(N, 3, 6), 7)], (7, 6)),
        "convolution": ([image], (4, 2, 3, 3)),
        "weighted": ([Weighted(often, draw(4, 6).abs())], (4, 6)),
        "tied": ([once, often, Outer(draw(N, 1, 4), draw(N, 1, 6))], (4, 6)),
    }


def alone(held: list[Part], shape: tuple[int, ...]) -> Tensor:
    """The example's gradient."""
    return sum((p.dense(0, p.rows)[ROW] for p in held), start=torch.zeros(())).reshape(shape)


KINDS = [*parts(torch.float64)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_the_same(kind: str, dtype: torch.dtype) -> None:
    held, shape = parts(dtype)[kind]
    gradient = alone(held, shape)
    for factor in (1.0, 0.25):
        assert same_vectors({"p": held}, ROW, {"p": gradient / factor}, factor)
        assert not same_vectors({"p": held}, ROW, {"p": gradient}, 2 * factor)
    assert not same_vectors({"p": held}, ROW - 1, {"p": gradient})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["an entry", "signs", "order", "transposed", "another parameter"])
def test_they_are_others_of_the_same_length(kind: str, how: str, dtype: torch.dtype) -> None:
    """Inner products of an example with itself would not tell."""
    held, shape = parts(dtype)[kind]
    gradient = alone(held, shape)
    other = gradient.flatten().clone()
    if how == "an entry":
        other[0] += 0.01 * gradient.norm()
        other *= gradient.norm() / other.norm()
    elif how == "signs":
        other[::2] *= -1
    elif how == "order":
        other = other.flip(0)
    elif how == "transposed":
        other = gradient.flatten(1).T.flatten() if len(shape) > 1 else other.roll(1)
    given = {"p": other.view(shape)}
    if how == "another parameter":
        given = {"p": gradient, "q": other.view(shape).neg()}
    assert not same_vectors(dict.fromkeys(given, held), ROW, given)


def test_where_there_is_no_telling() -> None:
    held, shape = parts(torch.float32)["once"]
    gradient = alone(held, shape)
    assert same_vectors({"p": held}, ROW, {"p": gradient})
    assert not same_vectors({"p": held}, ROW, {"p": gradient.double()})
    assert not same_vectors({"p": held}, ROW, {"p": gradient.bfloat16()})
    assert not same_vectors({"p": []}, ROW, {"p": torch.zeros(shape)})
    assert not same_vectors({"p": held}, ROW, {"p": torch.full(shape, torch.nan)})
    assert not same_vectors({"p": held}, ROW, {"p": torch.zeros(4, 7)})
    for size in (0.0, 1e-20, 1e20):  # squares vanish, or overflow
        small = [Outer(size * held[0].tensors()[0], held[0].tensors()[1])]
        assert not same_vectors({"p": small}, ROW, {"p": size * gradient})
    lost = Outer(torch.full((N, 1, 4), torch.nan), torch.ones(N, 1, 6))
    assert not same_vectors({"p": [lost]}, ROW, {"p": gradient})


def test_long_gradients_are_summed_without_much_rounding() -> None:
    """Of all the same sign, so that errors of rounding do not cancel."""
    layer = nn.Linear(1500, 1500)
    x = torch.rand(2, 1500) + 1
    layer(x[1:]).sum().backward()
    assert layer.weight.grad is not None
    held = [Outer(torch.ones(2, 1, 1500), x[:, None])]
    for size, same in ((1 - 7e-5, False), (1 - 3e-5, True), (1, True), (1 + 3e-5, True), (1 + 7e-5, False)):
        assert same_vectors({"weight": held}, 1, {"weight": size * layer.weight.grad}) is same
