"""Tensors computed from parameters, tied and shared parameters, complex parameters."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from .registry import Built, Call, case, normal, randomised, regression, tokens


@case()
def tied_autoencoder() -> Built:
    return regression(
        Call(lambda m, x: F.linear(torch.tanh(F.linear(x, m.w, m.b)), m.w.T), w=(3, 4), b=(3,)), normal(4)
    )


@case()
def tied_embedding_and_decoder() -> Built:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mid, self.head = nn.Embedding(6, 4), nn.Linear(4, 4), nn.Linear(4, 6, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(torch.tanh(self.mid(self.embed(ids))))

    return regression(Model(), tokens(5, 6))


@case()
def layer_called_twice() -> Built:
    return regression(Call(lambda m, x: m.layer(torch.tanh(m.layer(x))), layer=nn.Linear(4, 4)), normal(4))


@case()
def convolution_called_twice() -> Built:
    layer = nn.Conv2d(3, 3, 3, padding=1)
    return regression(Call(lambda m, x: m.layer(torch.tanh(m.layer(x))), layer=layer), normal(3, 5, 5))


@case()
def layer_called_with_other_lengths() -> Built:
    return regression(Call(lambda m, x: m.layer(x).sum(1) + m.layer(x[:, 0]), layer=nn.Linear(4, 3)), normal(5, 4))


@case()
def layer_in_two_places() -> Built:
    layer = nn.Linear(4, 4)
    return regression(nn.Sequential(layer, nn.Tanh(), layer, nn.LayerNorm(4)), normal(4))


@case()
def siamese() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.net(x[:, 0]) * m.net(x[:, 1])

    return regression(Call(forward, net=nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))), normal(2, 4))


@case()
def siamese_joined_along_the_batch() -> Built:
    """Two views joined to a batch of 2n and split again, as contrastive training does."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        one, two = m.net(torch.cat([x[:, 0], x[:, 1]])).chunk(2)
        return one * two

    return regression(Call(forward, net=nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))), normal(2, 4))


@case(interleaved={"interleave": True}, repeated={"interleave": False})
def augmented(interleave: bool) -> Built:
    """Each example twice in the batch that the layer sees."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        noise = torch.tensor([1.0, 0.5]).to(x)
        if interleave:
            return m.layer(x.repeat_interleave(2, 0) * noise.repeat(len(x))[:, None]).tanh().view(len(x), -1)
        return m.layer(x.repeat(2, 1) * noise.repeat_interleave(len(x))[:, None]).tanh().view(2, len(x), -1).sum(0)

    return regression(Call(forward, layer=nn.Linear(4, 3)), normal(4))


def triangular(m: nn.Module, x: Tensor) -> Tensor:
    """A matrix whose entries are written by place, as of an LU flow."""
    i, j = torch.tril_indices(4, 4, -1)
    w = x.new_zeros(4, 4)
    w[i, j] = m.p
    w[range(4), range(4)] = m.d.exp()
    return w


def written_and_read(m: nn.Module, x: Tensor) -> Tensor:
    w = x.new_zeros(4, 4)
    w[0] = m.d
    y = x + w.sum(0)
    w[1] = m.d.tanh()
    return (x @ w).tanh() + y


def row_of(m: nn.Module, write: Callable[[Tensor, Tensor], Any]) -> Tensor:
    w = m.w.clone()
    write(w, m.q)
    return w


WRITTEN: dict[str, Callable[[nn.Module], Tensor]] = {
    "row": lambda m: row_of(m, lambda w, q: w[7].add_(q)) * 2,
    "narrow": lambda m: row_of(m, lambda w, q: w.narrow(0, 7, 1).mul_(q)).tanh(),
    "flat": lambda m: row_of(m, lambda w, q: w.view(-1)[35:].mul_(q)).clone(),
    "column": lambda m: row_of(m, lambda w, q: w.t()[:, 7].mul_(q)) + 1,
    "then all": lambda m: row_of(m, lambda w, q: (w[7].add_(q), w.mul_(2))),
    "other view": lambda m: (lambda w: (lambda t: (operator.setitem(w, 7, m.q), t.t() * 1)[1])(w.t()))(m.w.clone()),
    "view before": lambda m: (lambda w: (lambda v: (w.mul_(m.q), torch.cat([m.w[:7], (v * 1)[None]]))[1])(w[7]))(
        m.w.clone()
    ),
    "copied": lambda m: (lambda w: (operator.setitem(w, 0, m.w[0]), w[7].copy_(m.q), w * 2)[2])(
        m.w.new_zeros(8, 5)
    ),
}
"""Tables that a parameter is written into by a view, which one example in many looks up."""


@case(**{name.replace(" ", "_"): {"name": name} for name in WRITTEN}, refuses=("vmap",))
def written_by_a_view(name: str) -> Built:
    module = randomised(Call(lambda m, x: x, w=(8, 5), q=(5,), out=nn.Linear(20, 3)))

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        found = F.embedding(batch[0], WRITTEN[name](module))
        return F.cross_entropy(module.out(found.tanh().flatten(1)), batch[1], reduction="none")

    ids = torch.arange(160).reshape(40, 4) % 6
    ids[21, 1] = 7
    return module, (ids, torch.arange(40) % 3), loss


DERIVED = {
    "written": (lambda m, x: x @ triangular(m, x), {"p": (6,), "d": (4,)}, (5, 4)),
    "written_and_copied": (
        lambda m, x: x @ x.new_empty(4, 4).copy_(triangular(m, x)).add_(torch.eye(4).to(x)),
        {"p": (6,), "d": (4,)},
        (5, 4),
    ),
    "written_and_read": (written_and_read, {"d": (4,)}, (5, 4)),
    "written_for_each": (
        lambda m, x: (lambda y: (operator.setitem(y, (slice(None), 0), m.d), y.tanh())[1])(x.clone()),
        {"d": (4,)},
        (5, 4),
    ),
    "same_parameter_twice_in_a_call": (lambda m, x: torch.einsum("bi,ij,jk->bk", x, m.w, m.w), {"w": (4, 4)}, (4,)),
    "weight_and_bias_from_one": (lambda m, x: F.linear(x, m.w[:, :4], m.w[:, 4]), {"w": (3, 5)}, (4,)),
    "product_of_one": (lambda m, x: F.linear(x, m.w @ m.w).tanh(), {"w": (4, 4)}, (4,)),
    "slice": (lambda m, x: F.linear(x, m.w[1:4]), {"w": (6, 4)}, (4,)),
    "strided_slice": (lambda m, x: F.linear(x, m.w[::2, 1:]), {"w": (6, 5)}, (4,)),
    "transposed": (lambda m, x: F.linear(x, m.w.t()), {"w": (4, 3)}, (4,)),
    "permuted": (lambda m, x: F.conv1d(x, m.w.permute(2, 1, 0)), {"w": (3, 2, 4)}, (2, 6)),
    "reshaped": (lambda m, x: F.linear(x, m.w.view(3, 4)), {"w": (12,)}, (4,)),
    "chunks": (lambda m, x: sum(F.linear(x, w).tanh() for w in m.w.chunk(3)), {"w": (9, 4)}, (5, 4)),
    "unbound": (lambda m, x: torch.stack([x @ w for w in m.w.unbind()], 1), {"w": (2, 4, 3)}, (4,)),
    "all_weights_in_one_vector": (
        lambda m, x: F.linear(F.linear(x, m.p[:12].view(3, 4), m.p[12:15]).tanh(), m.p[15:21].view(2, 3)),
        {"p": (21,)},
        (4,),
    ),
    "low_rank": (lambda m, x: F.linear(x, m.w + 0.5 * m.b @ m.a), {"w": (3, 4), "b": (3, 2), "a": (2, 4)}, (5, 4)),
    "lora_branches": (
        lambda m, x: F.linear(x, m.w) + 0.5 * F.linear(F.linear(x, m.a), m.b),
        {"w": (3, 4), "b": (3, 2), "a": (2, 4)},
        (5, 4),
    ),
    "normalised": (
        lambda m, x: F.linear(x, m.g * m.w / m.w.norm(dim=1, keepdim=True)),
        {"w": (3, 4), "g": (3, 1)},
        (4,),
    ),
    "standardised_convolution": (
        lambda m, x: F.conv2d(x, (m.w - m.w.mean((1, 2, 3), True)) / m.w.std((1, 2, 3), keepdim=True), padding=1),
        {"w": (3, 2, 3, 3)},
        (2, 5, 5),
    ),
    "exponentiated": (lambda m, x: x @ m.w.exp(), {"w": (4, 3)}, (5, 4)),
    "symmetrised": (lambda m, x: x @ (m.w + m.w.T), {"w": (4, 4)}, (5, 4)),
    "matrix_exponential": (lambda m, x: x @ torch.matrix_exp(m.w - m.w.T), {"w": (4, 4)}, (4,)),
    "stacked": (lambda m, x: x @ torch.stack([m.a, m.b], 1), {"a": (4,), "b": (4,)}, (4,)),
    "kronecker": (lambda m, x: x @ torch.kron(m.a, m.b), {"a": (2, 3), "b": (2, 2)}, (4,)),
    "cast": (lambda m, x: F.linear(x, m.w.to(torch.complex128).real), {"w": (3, 4)}, (4,)),
    "bias_table": (
        lambda m, x: (x @ x.mT + m.t[(torch.arange(5)[:, None] - torch.arange(5)) + 4]).softmax(-1) @ x,
        {"t": (9,)},
        (5, 4),
    ),
    "generated_weights": (
        lambda m, x: F.linear(x, (m.hyper @ m.code.tanh()).view(3, 4)).tanh(),
        {"hyper": (12, 2), "code": (2,)},
        (4,),
    ),
    "cached_and_used_twice": (
        lambda m, x: (lambda w: F.linear(F.linear(x, w).tanh(), w.T))(m.w * m.w),
        {"w": (3, 4)},
        (5, 4),
    ),
    "derived_scale": (lambda m, x: x.tanh() * F.softplus(m.g), {"g": (4,)}, (5, 4)),
    "divided_in_place": (
        lambda m, x: x @ torch.mul(m.w, m.w).div_(2).add_(m.b).T,
        {"w": (3, 4), "b": (1, 4)},
        (5, 4),
    ),
    "view_divided_in_place": (
        lambda m, x: x @ operator.itruediv((m.w @ m.w).view(2, 2, 4).transpose(0, 1), 3).reshape(4, 4),
        {"w": (4, 4)},
        (5, 4),
    ),
    "scaled_in_place_between": (
        lambda m, x: (lambda w: (x + w).tanh() * (x + w.mul_(0.5).add_(m.g)))(m.w.sin()),
        {"w": (4,), "g": (4,)},
        (5, 4),
    ),
    "base_of_a_view_changed_in_place": (
        lambda m, x: (lambda w: x @ (w[:2] * 2, w.add_(m.g), w)[2] + x @ w)(m.w.sin()),
        {"w": (4, 4), "g": (4,)},
        (5, 4),
    ),
    "by_a_parameter_in_place": (
        lambda m, x: x @ (lambda view, w: (view.mul_(2), w)[1])(*(lambda w: (w[1:], w))(m.w * 1)),
        {"w": (4, 4)},
        (5, 4),
    ),
    "also_used_plain": (
        lambda m, x: F.linear(x, m.w) + F.linear(x, m.w.abs().sqrt()).tanh(),
        {"w": (3, 4)},
        (5, 4),
    ),
}


@case(**{name: {"name": name} for name in DERIVED})
def derived(name: str) -> Built:
    function, members, shape = DERIVED[name]
    return regression(Call(function, **members), normal(*shape))


@case(
    linear={"layer": lambda: nn.Linear(4, 3), "shape": (4,)},
    conv={"layer": lambda: nn.Conv1d(4, 3, 3), "shape": (4, 6)},
)
@case(
    linear_new={"layer": lambda: nn.Linear(4, 3), "shape": (4,), "norm": parametrizations.weight_norm},
    conv_new={"layer": lambda: nn.Conv1d(4, 3, 3), "shape": (4, 6), "norm": parametrizations.weight_norm},
)
def weight_normed(layer: object, shape: tuple[int, ...], norm: object = weight_norm) -> Built:
    return regression(norm(layer()), normal(*shape))


@case(old={"norm": spectral_norm}, new={"norm": parametrizations.spectral_norm})
def spectral_normed(norm: object) -> Built:
    return regression(nn.Sequential(norm(nn.Linear(4, 5)), nn.Tanh(), norm(nn.Linear(5, 3))), normal(4))


@case()
def orthogonal() -> Built:
    return regression(parametrizations.orthogonal(nn.Linear(4, 4)), normal(4))


@case()
def own_parametrization() -> Built:
    class Symmetric(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight.triu() + weight.triu(1).T

    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return regression(layer, normal(5, 4))


@case()
def pruned() -> Built:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    prune.random_unstructured(net[0], "weight", amount=0.4)
    return regression(net, normal(4))


@case()
def complex_linear() -> Built:
    net = nn.Linear(4, 3, dtype=torch.complex128)
    return net, normal(4), lambda module, x: module(x.to(torch.complex128)).abs().square().sum(1)


@case()
def complex_bare() -> Built:
    module = Call(lambda m, x: m.w * torch.fft.rfft(x), w=nn.Parameter(torch.randn(4, 4, dtype=torch.complex128)))
    return module, normal(4, 6), lambda m, x: torch.fft.irfft(m(x), n=6).tanh().square().sum((1, 2))


@case()
def complex_from_real() -> Built:
    return regression(
        Call(lambda m, x: torch.fft.irfft(torch.fft.rfft(x) * torch.view_as_complex(m.w), n=6).tanh(), w=(4, 2)),
        normal(3, 6),
    )


@case()
def unused_parameter() -> Built:
    return regression(Call(lambda m, x: m.layer(x), layer=nn.Linear(4, 3), idle=nn.Linear(2, 2)), normal(4))


@case()
def used_without_effect() -> Built:
    return regression(
        Call(lambda m, x: m.layer(x) + 0 * m.idle(x), layer=nn.Linear(4, 3), idle=nn.Linear(4, 3)), normal(4)
    )


@case()
def used_behind_detach() -> Built:
    return regression(
        Call(lambda m, x: m.layer(x) * m.gate(x).detach(), layer=nn.Linear(4, 3), gate=nn.Linear(4, 3)), normal(4)
    )


@case()
def used_also_outside_the_graph() -> Built:
    """The same layer once with gradient and once without."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            frozen = m.layer(x)
        return m.layer(x) * frozen.tanh()

    return randomised(Call(forward, layer=nn.Linear(4, 3))), normal(4), lambda m, x: m(x).square().sum(1)
