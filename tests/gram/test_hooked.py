"""Functions that are hooked to gradients: of parameters, of tensors, of modules, of nodes."""

import warnings
from types import FunctionType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lightning_stiffness.gram import GradientGram, LossError, gradient_gram
from lightning_stiffness.gram.backward import grow
from lightning_stiffness.gram.familiar import forget
from tests.gram.test_scales import off

N = 60
LIMIT = 2.0


class Clipped(torch.autograd.Function):
    """Nothing, whose gradient is clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clamp(-LIMIT, LIMIT)


class Reversed(Clipped):
    """The same with the other sign."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def hooked(hook: Any) -> Any:
    def change(hidden: Tensor) -> Tensor:
        if hidden.requires_grad:
            hidden.register_hook(hook)
        return hidden

    return change


def by_node(hidden: Tensor) -> Tensor:
    if hidden.grad_fn is not None:
        hidden.grad_fn.register_prehook(lambda gradients: (gradients[0].clamp(-LIMIT, LIMIT),))
    return hidden


CLIPPING = {
    "hook": hooked(lambda g: g.clamp(-LIMIT, LIMIT)),
    "norms": hooked(lambda g: g * (LIMIT / g.norm(dim=1, keepdim=True)).clamp(max=1)),
    "function": Clipped.apply,
}
LINEAR = {"half": hooked(lambda g: g / 2), "reversed": Reversed.apply, "watched": hooked(lambda g: None)}


class Net(nn.Module):
    """With something done to gradients in the middle."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.change = nn.Linear(6, 8), nn.Linear(8, 1), change
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.change(self.first(x))))


def loss_by(reduction: str) -> Any:
    def loss(module: Any, batch: Any) -> Tensor:
        losses = F.mse_loss(module(batch[0]), batch[1], reduction="none")[:, 0]
        return losses if reduction == "none" else getattr(losses, reduction)()

    return loss


def measured(module: nn.Module, reduction: str, engine: str = "auto") -> GradientGram:
    forget()
    torch.manual_seed(0)
    batch = torch.randn(N, 6, dtype=torch.float64), torch.randn(N, 1, dtype=torch.float64) / 8
    batch[1][17] = 9.0  # the one example whose gradient is clipped, and never alone in its turn
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "stiffness of")
        return gradient_gram(module, batch, loss_fn=loss_by(reduction), engine=engine)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("how", [*CLIPPING, *LINEAR])
def test_gradients_of_tensors(how: str, reduction: str) -> None:
    module = Net({**CLIPPING, **LINEAR}[how])
    found = measured(module, reduction)
    assert off(found, measured(module, reduction, "loop")) < 1e-9
    if how in LINEAR or reduction == "sum":
        assert not found.plan.fallbacks
    if how in CLIPPING and reduction == "mean":
        assert "by their size" in next(iter(found.plan.fallbacks.values()))


class Deeper(nn.Module):
    """With something done to the gradients of a layer that others come before."""

    def __init__(self, change: Any, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.change, self.kind = nn.Linear(6, 8), nn.Linear(8, 1), change, kind
        self.inner, self.norm, self.scale = nn.Linear(8, 8), nn.LayerNorm(8), nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).tanh()
        if self.kind == "linear":
            x = self.inner(x)
        elif self.kind == "norm":
            x = self.norm(x)
        elif self.kind == "scale":
            x = x * self.scale
        elif self.kind == "view":
            x = torch.einsum("ni,oi->on", x, self.inner.weight).T
        return self.last(torch.tanh(self.change(x)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("kind", ["linear", "norm", "scale", "view"])
@pytest.mark.parametrize("how", ["hook", "norms", "half"])
def test_gradients_of_later_tensors(how: str, kind: str, reduction: str, dtype: torch.dtype) -> None:
    """Autograd hands them out as they were before, where those of earlier layers are asked for too."""
    module = Deeper({**CLIPPING, **LINEAR}[how], kind).to(dtype)
    torch.manual_seed(0)
    batch = torch.randn(N, 6, dtype=dtype), torch.randn(N, 1, dtype=dtype) / 8
    batch[1][17] = 40.0
    forget()
    for _ in range(3):
        found, exact = (
            gradient_gram(module, batch, loss_fn=loss_by(reduction), engine=e) for e in ("auto", "loop")
        )
        # by processors whose sums differ the loop itself is off by 2e-5, where an example's loss is near nothing
        assert off(found, exact) < (1e-9 if dtype == torch.float64 else 2e-4)
        assert not found.plan.fallbacks


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_that_are_rounded_are_not_clipped(reduction: str) -> None:
    """As of an activation with a gradient of its own, in a model that computes in float32 here and there."""
    found = measured(Net(hooked(lambda g: (g.float() / 3).double())), reduction)
    assert not found.plan.fallbacks


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_hook_of_a_node_is_not_seen_and_refused(reduction: str) -> None:
    module = Net(by_node)
    found = measured(module, reduction)
    assert off(found, measured(module, reduction, "loop")) < 1e-9
    assert "grad_fn" in next(iter(found.plan.fallbacks.values()))


def test_torchs_own_look_at_a_node_hooks_nothing() -> None:
    """Up to torch 2.11 a checkpoint looked whether its inputs have one."""

    def looked(hidden: Tensor) -> Tensor:
        return hidden if hidden.grad_fn is None else hidden * 1

    own = FunctionType(looked.__code__, {**globals(), "__name__": "torch.utils.checkpoint"})
    assert "grad_fn" in str(measured(Net(looked), "none").plan.fallbacks)
    found = measured(Net(own), "none")
    assert off(found, measured(Net(own), "none", "loop")) < 1e-9
    assert not found.plan.fallbacks


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_hook_of_a_module(reduction: str) -> None:
    module = Net(nn.Identity())
    module.last.register_full_backward_hook(lambda _, given, __: (given[0].clamp(-LIMIT, LIMIT),))
    found = measured(module, reduction)
    assert off(found, measured(module, reduction, "loop")) < 1e-9
    assert bool(found.plan.fallbacks) == (reduction == "mean")


@pytest.mark.parametrize("engine", ["auto", "loop", "vmap"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_hooks_of_parameters_are_put_aside(engine: str, reduction: str) -> None:
    """They belong to the step, and see none of the gradients that are taken to measure."""
    plain, module = Net(nn.Identity()), Net(nn.Identity())
    module.load_state_dict(plain.state_dict())
    seen: list[Any] = []
    handles = []
    for parameter in module.parameters():
        handles.append(parameter.register_hook(lambda g: seen.append(g) or g.clamp(-1e-3, 1e-3)))
        handles.append(parameter.register_post_accumulate_grad_hook(seen.append))
    assert off(measured(module, reduction, engine), measured(plain, reduction, "loop")) < 1e-9
    assert not seen
    loss_by("mean")(
        module, (torch.ones(2, 6, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64))
    ).backward()
    assert len(seen) == len(handles)
    assert all(float(p.grad.abs().max()) <= 1e-3 for p in module.parameters() if p.grad is not None)
    for handle in handles:
        handle.remove()
    assert not any(p._backward_hooks for p in module.parameters())


def test_no_step_is_taken_in_a_backward_pass() -> None:
    """By an optimizer that steps as soon as a gradient is there, where a checkpoint knows ``backward`` alone."""
    module = Net(lambda hidden: checkpoint(torch.tanh, hidden, use_reentrant=True))
    before = [p.detach().clone() for p in module.parameters()]

    def step(parameter: Tensor) -> None:
        with torch.no_grad():
            parameter -= 0.1 * parameter.grad  # type: ignore[operator]

    for parameter in module.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    measured(module, "none")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_a_loss_that_goes_backward_by_itself(engine: str) -> None:
    """It adds to gradients of a training step that are not done with, and clears them."""
    module, plain = Net(nn.Identity()), Net(nn.Identity())
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    given = [parameter.grad for parameter in module.parameters()]

    def attacked(module: Any, batch: Any) -> Tensor:
        x = batch[0].clone().requires_grad_()
        loss_by("sum")(module, (x, batch[1])).backward()
        assert x.grad is not None
        moved = (x + x.grad.sign() / 8).detach()
        module.zero_grad()
        return loss_by("mean")(module, (moved, batch[1]))

    batch = torch.randn(9, 6, dtype=torch.float64), torch.randn(9, 1, dtype=torch.float64)
    found = gradient_gram(module, batch, loss_fn=attacked, engine=engine)
    assert off(found, gradient_gram(plain, batch, loss_fn=attacked, engine="loop")) < 1e-9
    for parameter, gradient in zip(module.parameters(), given, strict=True):
        assert parameter.grad is gradient
        assert bool((gradient == 1).all())


class Hooking(Net):
    """Hooks a function to its own weight in each pass."""

    def forward(self, x: Tensor) -> Tensor:
        self.first.weight.register_hook(lambda g: g.clamp(-1e-3, 1e-3))
        return super().forward(x)


@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize("before", [0, 1])
def test_hooks_of_a_forward_pass_do_not_pile_up(engine: str, before: int) -> None:
    module, plain = Hooking(nn.Identity()), Net(nn.Identity())
    for _ in range(before):
        module.first.weight.register_hook(lambda g: 2 * g)
    assert off(measured(module, "none", engine), measured(plain, "none", "loop")) < 1e-9
    assert len(module.first.weight._backward_hooks or ()) == before


def test_hooks_are_back_after_an_error() -> None:
    module = Net(nn.Identity())
    handle = module.first.weight.register_hook(lambda g: 2 * g)
    with pytest.raises(LossError):
        gradient_gram(module, torch.ones(3, 6, dtype=torch.float64), loss_fn=lambda m, b: None)
    assert [*module.first.weight._backward_hooks] == [handle.id]


@pytest.mark.parametrize(
    ("small", "large", "right"),
    [
        ([torch.tensor([1.0, torch.nan])], [torch.tensor([3.0, torch.nan])], True),
        ([torch.tensor([1.0, 1e-9])], [torch.tensor([3.0, 0.0])], True),
        ([torch.tensor([1.0]), None], [torch.tensor([3.0]), None], True),
        ([torch.tensor([1.0]), None], [torch.tensor([3.0]), torch.tensor([1.0])], False),
        ([torch.zeros(0)], [torch.zeros(0)], True),
        ([torch.tensor([1.0 + 1j])], [torch.tensor([3.0 + 3.1j])], False),
    ],
)
def test_whether_gradients_grow(small: Any, large: Any, right: bool) -> None:
    assert grow(small, large, 3) == right
