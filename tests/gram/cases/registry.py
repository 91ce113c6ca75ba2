"""The register of cases: named modules with a batch and a loss, on which every engine is held to the loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_stiffness.gram.batch import Batch, batch_size, take
from lightning_stiffness.gram.problem import LossFn
from tests.devices import DEVICE

Built = tuple[nn.Module, Batch, LossFn]

N = 7
"""Examples in a case: odd, so that halves and pairs do not come out even by luck."""


@dataclass(frozen=True)
class Case:
    """One entry of the register; the function's arguments are those of :func:`case`."""

    name: str
    builder: Callable[[], Built]
    refuses: frozenset[str]
    scale_free: bool
    couples: bool
    tolerance: float
    parameters: Any
    dtype: torch.dtype

    def build(self) -> Built:
        """The module, its batch and its loss: the same numbers at every call."""
        default = torch.get_default_dtype()
        with torch.random.fork_rng(), torch.device(DEVICE):
            torch.manual_seed(0)
            torch.set_default_dtype(self.dtype)
            try:
                return self.builder()
            finally:
                torch.set_default_dtype(default)


CASES: dict[str, Case] = {}


def case(
    *,
    refuses: tuple[str, ...] = (),
    scale_free: bool = False,
    couples: bool = False,
    tolerance: float = 1e-9,
    parameters: Any = None,
    dtype: torch.dtype = torch.float64,
    **variants: Any,
) -> Callable[[Callable[..., Built]], Callable[..., Built]]:
    """Enter a function that builds a case under its own name.

    Args:
        refuses: engines that may raise ``EngineRefusal`` here, where asked for by name.
        scale_free: the loss of a batch gives each example a positive factor of its own (a mean, a weighted
            mean), so cosines are compared and not the inner products.
        couples: the examples of a batch change each other's loss; an error in words is as good as the Gram.
        tolerance: largest error relative to the two norms; above 1e-9 only where the module itself rounds.
        parameters: the ``parameters=`` to measure with.
        dtype: the default dtype while building.
        **variants: suffix → arguments for the function; each enters a case of its own.
    """

    def enter(builder: Callable[..., Built]) -> Callable[..., Built]:
        for suffix, arguments in (variants or {"": {}}).items():
            name = f"{builder.__name__}_{suffix}" if suffix else builder.__name__
            assert name not in CASES, f"two cases are called {name}"
            bound = _bound(builder, arguments)
            CASES[name] = Case(name, bound, frozenset(refuses), scale_free, couples, tolerance, parameters, dtype)
        return builder

    return enter


def _bound(builder: Callable[..., Built], arguments: dict[str, Any]) -> Callable[[], Built]:
    return lambda: builder(**arguments)


def randomised(module: nn.Module) -> nn.Module:
    """Every parameter and running statistic moved off its initial value: zeros and ones hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return module.eval()


def squared_error(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Half the squared error of each example ``[n]``."""
    x, target = batch
    return (module(x) - target).square().flatten(1).sum(1) / 2


def regression(module: nn.Module, x: Tensor) -> Built:
    """A module on inputs ``[n, …]`` with targets drawn in the shape of its output."""
    module = randomised(module)
    with torch.no_grad():
        target = torch.randn_like(module(x))
    return module, (x, target), squared_error


def normal(*shape: int, n: int = N) -> Tensor:
    """Inputs ``[n, *shape]``."""
    return torch.randn(n, *shape)


def tokens(length: int, vocabulary: int, n: int = N) -> Tensor:
    """Token ids ``[n, length]``."""
    return torch.randint(vocabulary, (n, length))


class Call(nn.Module):
    """A function of the module and its input as a forward pass: ``Call(lambda m, x: …, w=shape)``.

    Keyword arguments become attributes: a tuple a random parameter of that shape, anything else as it is.
    """

    def __init__(self, function: Callable[[Any, Any], Tensor], **members: Any):
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, nn.Parameter(torch.randn(member)) if isinstance(member, tuple) else member)

    def forward(self, x: Any) -> Tensor:
        return self.function(self, x)


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """The first three examples and the rest."""
    size = batch_size(batch)
    return take(batch, slice(0, 3), size), take(batch, slice(3, size), size)
