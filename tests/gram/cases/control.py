"""Control flow, hidden uses and modules built to deceive an engine that watches calls."""

import operator
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .registry import Built, Call, case, normal, randomised, regression


@case(reentrant={"use_reentrant": True}, plain={"use_reentrant": False}, refuses=("layerwise", "vmap"))
def checkpointed(use_reentrant: bool) -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        hidden = torch.tanh(m.enter(x))
        return m.leave(checkpoint(m.middle, hidden, use_reentrant=use_reentrant))

    middle = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
    return regression(Call(forward, enter=nn.Linear(4, 5), middle=middle, leave=nn.Linear(5, 2)), normal(4))


@case(refuses=("layerwise", "vmap"))
def checkpointed_everywhere() -> Built:
    """Re-entrant from the input on: asked by ``autograd.grad``, it hides its parameters without an error."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        hidden = checkpoint(m.enter, x.detach().requires_grad_(), use_reentrant=True)
        return checkpoint(m.leave, hidden, use_reentrant=True)

    return regression(
        Call(forward, enter=nn.Linear(4, 5), leave=nn.Sequential(nn.Tanh(), nn.Linear(5, 2))), normal(4)
    )


@case()
def inplace_relu() -> Built:
    return regression(nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 2)), normal(4))


@case()
def inplace_residual() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.one(x)
        hidden += m.two(x)
        hidden *= 2
        return hidden

    return regression(Call(forward, one=nn.Linear(4, 3), two=nn.Linear(4, 3)), normal(4))


def viewed(y: Tensor) -> Tensor:
    z = y.unflatten(-1, (2, 3)).transpose(1, 2)
    z /= 2.0
    return z.transpose(1, 2).flatten(2)


CHANGES: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "plus_parameter": lambda m, y, x: operator.iadd(y, m.p),
    "times_parameter": lambda m, y, x: operator.imul(y, m.p),
    "times_input": lambda m, y, x: operator.imul(y, x[..., :1]),
    "divided": lambda m, y, x: operator.itruediv(y, 2.0),
    "masked": lambda m, y, x: (operator.setitem(y, x[..., 0] > 0, 0.0), y)[1],
    "filled": lambda m, y, x: y.masked_fill_(x[..., :1] > 0, 0.0),
    "sliced": lambda m, y, x: (operator.setitem(y, (slice(None), 0), 0.0), y)[1],
    "rectified": lambda m, y, x: y.relu_(),
    "part": lambda m, y, x: (y[..., :2].mul_(3), y)[1],
    "viewed": lambda m, y, x: viewed(y),
    "several": lambda m, y, x: y.add_(m.p).mul_(2).add_(x[..., :1]).mul_(-1).add_(m.p).relu_(),
}
"""What changes the output of a layer in place, which may be a view."""

LAYERS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "linear": lambda m, x: F.linear(x, m.w.T, m.b),
    "product": lambda m, x: x @ m.w,
    "einsum": lambda m, x: torch.einsum("btc,cd->btd", x, m.w),
    "einsum_turned": lambda m, x: torch.einsum("btc,cd->dbt", x, m.w).permute(1, 2, 0),
}


@case(
    **{f"{layer}_{change}": {"layer": layer, "change": change} for layer in LAYERS for change in CHANGES},
    refuses=("vmap",),
)
def view_changed(layer: str, change: str) -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.leave(CHANGES[change](m, LAYERS[layer](m, x), x).tanh())

    return regression(Call(forward, w=(4, 6), b=(6,), p=(6,), leave=nn.Linear(6, 2)), normal(5, 4))


ALIASES: dict[str, Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, ...]]] = {
    "broadcast": lambda m, h, x: torch.broadcast_tensors(h, m.s),
    "two_axes": lambda m, h, x: torch.atleast_2d(h, m.s),
}


@case(**{name: {"name": name} for name in ALIASES}, refuses=("vmap",))
def output_that_is_an_input(name: str) -> Built:
    """To change the one in place is to change the other, for one example in many."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        h = m.enter(x)
        a, t = ALIASES[name](m, h, x)
        a.masked_fill_(x[:, :1] > 4, 0.0)
        return m.leave(h * t)

    module, (x, *rest), loss = regression(
        Call(forward, enter=nn.Linear(6, 6), leave=nn.Linear(6, 3), s=(6,)), normal(6)
    )
    x = x.clamp(-2, 2)
    x[len(x) // 2, 0] = 5.0
    return module, (x, *rest), loss


@case()
def input_changed_after_use() -> Built:
    """The layer's input is overwritten where autograd doesn't need it: the captured one is stale."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = x.clone()
        hidden = x + m.shift
        out = m.embed((x[..., 0] > 0).long()) * hidden.tanh()
        x.zero_()
        return out + x

    return regression(Call(forward, shift=(4,), embed=nn.Embedding(2, 4)), normal(5, 4))


@case()
def ids_changed_after_use() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        ids = (x > 0).long()
        out = m.embed(ids.clone())
        ids.zero_()
        return out.tanh() * (1 + ids[..., None])

    return regression(Call(forward, embed=nn.Embedding(2, 4)), normal(5))


@case(refuses=("vmap",))
def branch_on_data() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        rows = [m.one(row) if row.sum().item() > 0 else m.two(row) for row in x]
        return torch.stack(rows)

    return regression(Call(forward, one=nn.Linear(4, 3), two=nn.Linear(4, 3)), normal(4))


@case(refuses=("vmap",))
def depth_by_data() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        out = torch.empty(len(x), 4).to(x)
        for i in range(len(x)):
            hidden = x[i : i + 1]
            for _ in range(1 + int(x[i, 0].item() > 0)):
                hidden = torch.tanh(m.layer(hidden))
            out[i] = hidden[0]
        return out

    return regression(Call(forward, layer=nn.Linear(4, 4)), normal(4))


class Doubled(torch.autograd.Function):
    """y = 2x, with a backward written by hand."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return 2 * gradient


@case(refuses=("vmap",))
def own_function_without_weights() -> Built:
    return regression(
        Call(lambda m, x: m.b(Doubled.apply(m.a(x))), a=nn.Linear(4, 3), b=nn.Linear(3, 2)), normal(4)
    )


class OwnLinear(torch.autograd.Function):
    """A linear layer whose weight no torch function ever sees."""

    @staticmethod
    def forward(ctx: object, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradient @ weight.T, x.T @ gradient


@case(refuses=("vmap",))
def weight_in_own_function() -> Built:
    return regression(
        Call(lambda m, x: m.b(torch.tanh(OwnLinear.apply(x, m.w))), w=(4, 3), b=nn.Linear(3, 2)), normal(4)
    )


@case(refuses=("layerwise", "vmap"))
def weight_in_own_function_and_plain() -> Built:
    return regression(Call(lambda m, x: OwnLinear.apply(x, m.w).tanh() + x @ m.w, w=(4, 3)), normal(4))


@case()
def weight_through_data() -> Built:
    """The value of a weight without its history: no part of the gradient."""
    return regression(Call(lambda m, x: (x @ m.w).tanh() @ m.w.data.T, w=(4, 3)), normal(4))


@case()
def weight_below_the_dispatcher() -> Built:
    """Called as an aten operator, which reports no torch function."""
    return regression(Call(lambda m, x: torch.ops.aten.linear(x, m.w).tanh() @ m.v, w=(3, 4), v=(3, 2)), normal(4))


@case()
def weight_with_torch_function_off() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            hidden = F.linear(x, m.w).tanh()
        return hidden @ m.v

    return regression(Call(forward, w=(3, 4), v=(3, 2)), normal(4))


@case(refuses=("layerwise", "vmap"))
def scripted() -> Built:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).to(torch.get_default_dtype())
    return regression(torch.jit.trace(net, normal(4), check_trace=False), normal(4))


@case(refuses=("vmap",))
def weight_kept_outside_the_register() -> Built:
    """The forward pass takes its weights from a plain list that holds the same parameters."""
    module = Call(lambda m, x: torch.tanh(x @ m.kept[0]) @ m.kept[1], v=(4, 3), w=(3, 2))
    module.kept = [module.v, module.w]
    return regression(module, normal(4))


@case(refuses=("vmap",))
def backward_hook_scales() -> Built:
    """A hook on the way back is part of the gradient that training sees."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.a(x)
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: 3 * gradient)
        return m.b(torch.tanh(hidden))

    return regression(Call(forward, a=nn.Linear(4, 3), b=nn.Linear(3, 2)), normal(4))


@case(refuses=("vmap",))
def buffer_written_in_forward() -> Built:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.register_buffer("seen", torch.zeros(3))
            self.register_buffer("calls", torch.zeros((), dtype=torch.long))

        def forward(self, x: Tensor) -> Tensor:
            out = self.layer(x)
            self.seen += out.detach().mean(0)
            self.calls = self.calls + 1
            return out

    return regression(Counting(), normal(4))


@case()
def buffer_replaced_in_forward() -> Built:
    """After a pass under vmap, the buffer would be one of vmap's own tensors."""

    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.register_buffer("mean", torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            out = self.layer(x - self.mean)
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
            return out

    return regression(Running(), normal(4))


@case(time_first={"first": True}, folded={"first": False})
def batch_axis_moves(first: bool) -> Built:
    """The same layer sees the examples along its first axis in one call and along its second in the next."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        if first:
            x = torch.tanh(m.layer(x.transpose(0, 1))).transpose(0, 1)
        else:
            x = torch.tanh(m.layer(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        return m.layer(x)

    return regression(Call(forward, layer=nn.Linear(4, 4)), normal(5, 4))


@case()
def batch_axis_of_equal_length() -> Built:
    """As many positions as examples, the batch second: lengths alone do not tell which axis is which."""
    return regression(
        Call(lambda m, x: torch.tanh(m.layer(x.transpose(0, 1))).transpose(0, 1), layer=nn.Linear(7, 4)),
        normal(7, 7),
    )


@case(reversed={"kind": "flip"}, rolled={"kind": "roll"})
def examples_reordered(kind: str) -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        if kind == "flip":
            return m.b(torch.tanh(m.a(x.flip(0))).flip(0))
        return m.b(torch.tanh(m.a(x.roll(1, 0))).roll(-1, 0))

    return regression(Call(forward, a=nn.Linear(4, 3), b=nn.Linear(3, 2)), normal(4))


@case(refuses=("vmap",))
def axis_that_follows_the_batch_size() -> Built:
    """Odd batches run with the examples in front, even ones with the positions in front."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        if len(x) % 2:
            return torch.tanh(m.layer(x))
        return torch.tanh(m.layer(x.transpose(0, 1))).transpose(0, 1)

    return regression(Call(forward, layer=nn.Linear(4, 3)), normal(5, 4))


@case()
def one_example_at_a_time() -> Built:
    return regression(
        Call(lambda m, x: torch.stack([torch.tanh(m.layer(row)) for row in x]), layer=nn.Linear(4, 3)), normal(4)
    )


@case(refuses=("layerwise",))
def inner_vmap() -> Built:
    return regression(
        Call(lambda m, x: torch.func.vmap(lambda row: torch.tanh(m.layer(row)))(x), layer=nn.Linear(4, 3)),
        normal(4),
    )


@case()
def called_under_an_inner_mode() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        with torch.device(x.device):
            return m.layer(x) + torch.zeros(3)

    return regression(Call(forward, layer=nn.Linear(4, 3)), normal(4))


@case(refuses=("vmap",))
def only_part_in_eval() -> Built:
    """``train`` overridden to keep a part in training mode must not matter: dropout stays off."""

    class Stubborn(nn.Sequential):
        def train(self, mode: bool = True) -> nn.Module:
            return super().train(True)

    return regression(Stubborn(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 2)), normal(4))


@case()
def skips_a_layer_for_some() -> Built:
    """A layer whose output is multiplied by zero for some of the examples."""
    return regression(Call(lambda m, x: m.a(x) * (x[:, :1] > 0), a=nn.Linear(4, 3)), normal(4))


@case()
def weights_that_cancel() -> Built:
    return (
        randomised(Call(lambda m, x: m.a(x) - m.a(x.flip(1)), a=nn.Linear(4, 3))),
        normal(4),
        lambda m, x: m(x).square().sum(1),
    )
