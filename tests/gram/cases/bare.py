"""Parameters that no layer holds: bare ones, and functions called with a parameter."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .registry import Built, Call, case, normal, regression, tokens

FUNCTIONS = {
    "f_linear": (lambda m, x: F.linear(x, m.w, m.b), {"w": (3, 4), "b": (3,)}, (4,)),
    "f_linear_tokens": (lambda m, x: F.linear(x, m.w), {"w": (3, 4)}, (5, 4)),
    "right_product": (lambda m, x: x @ m.w, {"w": (4, 3)}, (4,)),
    "right_product_tokens": (lambda m, x: x @ m.w, {"w": (4, 3)}, (5, 4)),
    "right_product_heads": (lambda m, x: x[:, None] @ m.w, {"w": (2, 4, 3)}, (5, 4)),
    "left_product": (lambda m, x: m.w @ x, {"w": (3, 4)}, (4, 2)),
    "left_product_vector": (lambda m, x: (m.w @ x.T).T, {"w": (3, 4)}, (4,)),
    "product_with_vector": (lambda m, x: (x @ m.w)[:, None], {"w": (4,)}, (4,)),
    "product_folded": (lambda m, x: (x.reshape(-1, 4) @ m.w).reshape(len(x), -1), {"w": (4, 3)}, (5, 4)),
    "product_folded_time_first": (
        lambda m, x: (x.transpose(0, 1).reshape(-1, 4) @ m.w).reshape(5, len(x), 3).transpose(0, 1),
        {"w": (4, 3)},
        (5, 4),
    ),
    "mm": (lambda m, x: torch.mm(x, m.w), {"w": (4, 3)}, (4,)),
    "mv": (lambda m, x: torch.mv(x, m.w)[:, None], {"w": (4,)}, (4,)),
    "addmm": (lambda m, x: torch.addmm(m.b, x, m.w), {"w": (4, 3), "b": (3,)}, (4,)),
    "addmm_scaled": (lambda m, x: torch.addmm(m.b, x, m.w, beta=0.5, alpha=2.0), {"w": (4, 3), "b": (3,)}, (4,)),
    "addmm_folded": (
        lambda m, x: torch.addmm(m.b, x.view(-1, 4), m.w).view(*x.shape[:-1], 3),
        {"w": (4, 3), "b": (3,)},
        (5, 4),
    ),
    "bmm_expanded": (lambda m, x: torch.bmm(x, m.w.expand(len(x), 4, 3)), {"w": (4, 3)}, (5, 4)),
    "bmm_experts": (lambda m, x: torch.bmm(x.transpose(0, 1), m.w).transpose(0, 1), {"w": (5, 4, 3)}, (5, 4)),
    "baddbmm": (
        lambda m, x: torch.baddbmm(m.b, x.transpose(0, 1), m.w).transpose(0, 1),
        {"b": (5, 1, 3), "w": (5, 4, 3)},
        (5, 4),
    ),
    "einsum_linear": (lambda m, x: torch.einsum("bi,io->bo", x, m.w), {"w": (4, 3)}, (4,)),
    "einsum_weight_first": (lambda m, x: torch.einsum("oi,bi->bo", m.w, x), {"w": (3, 4)}, (4,)),
    "einsum_heads": (lambda m, x: torch.einsum("btd,hdk->bhtk", x, m.w), {"w": (2, 4, 3)}, (5, 4)),
    "einsum_ellipsis": (lambda m, x: torch.einsum("...i,io->...o", x, m.w), {"w": (4, 3)}, (5, 4)),
    "einsum_quadratic": (lambda m, x: torch.einsum("bi,ijk,bj->bk", x, m.w, x), {"w": (4, 4, 2)}, (4,)),
    "einsum_batch_last": (lambda m, x: torch.einsum("ib,io->ob", x.T, m.w).T, {"w": (4, 3)}, (4,)),
    "einsum_positions": (lambda m, x: torch.einsum("btd,td->bt", x, m.w), {"w": (5, 4)}, (5, 4)),
    "einsum_two_weights": (
        lambda m, x: torch.einsum("bi,ij,jk->bk", x, m.w, m.v),
        {"w": (4, 3), "v": (3, 2)},
        (4,),
    ),
    "tensordot": (lambda m, x: torch.tensordot(x, m.w, dims=([2, 1], [0, 1])), {"w": (4, 5, 3)}, (5, 4)),
    "f_bilinear": (lambda m, x: F.bilinear(x, x, m.w), {"w": (3, 4, 4)}, (4,)),
    "f_conv2d": (lambda m, x: F.conv2d(x, m.w, m.b, padding=1), {"w": (3, 2, 3, 3), "b": (3,)}, (2, 5, 5)),
    "f_conv1d_shared_channels": (
        lambda m, x: F.conv1d(x.flatten(0, 1)[:, None], m.w).unflatten(0, x.shape[:2]),
        {"w": (2, 1, 3)},
        (3, 6),
    ),
    "f_layer_norm": (lambda m, x: F.layer_norm(x, (4,), m.w, m.b), {"w": (4,), "b": (4,)}, (5, 4)),
    "position_embedding": (lambda m, x: torch.tanh(x + m.p), {"p": (1, 5, 4)}, (5, 4)),
    "position_embedding_slice": (lambda m, x: torch.tanh(x + m.p[: x.shape[1]]), {"p": (9, 4)}, (5, 4)),
    "position_embedding_left": (lambda m, x: torch.tanh(m.p + x), {"p": (5, 4)}, (5, 4)),
    "bias_subtracted": (lambda m, x: torch.tanh(x - m.p), {"p": (4,)}, (5, 4)),
    "bias_from": (lambda m, x: torch.tanh(m.p - 2 * x), {"p": (4,)}, (5, 4)),
    "bias_scaled": (lambda m, x: torch.tanh(torch.add(x, m.p, alpha=3)), {"p": (4,)}, (5, 4)),
    "class_token_expand": (
        lambda m, x: _mix(torch.cat([m.t.expand(len(x), -1, -1), x], 1)),
        {"t": (1, 1, 4)},
        (5, 4),
    ),
    "class_token_repeat": (
        lambda m, x: _mix(torch.cat([m.t.repeat(len(x), 1, 1), x], 1)),
        {"t": (1, 1, 4)},
        (5, 4),
    ),
    "class_token_written": (lambda m, x: _mix(_written(x, m.t)), {"t": (4,)}, (5, 4)),
    "layer_scale": (lambda m, x: x + m.g * torch.tanh(x), {"g": (4,)}, (5, 4)),
    "channel_gain": (lambda m, x: torch.tanh(x * m.g[:, None, None]), {"g": (3,)}, (3, 2, 2)),
    "divided_by": (lambda m, x: torch.tanh(x / m.g), {"g": (4,)}, (5, 4)),
    "divided_from": (lambda m, x: m.g / (2 + torch.tanh(x)), {"g": (4,)}, (5, 4)),
    "scalar_gain": (lambda m, x: torch.tanh(x * m.g), {"g": ()}, (5, 4)),
    "temperature": (lambda m, x: torch.softmax(x * m.g.exp(), -1), {"g": ()}, (5, 4)),
    "custom_rms_norm": (
        lambda m, x: m.g * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6),
        {"g": (4,)},
        (5, 4),
    ),
    "power": (lambda m, x: x.abs().add(0.1) ** m.g, {"g": (4,)}, (5, 4)),
    "generalised_mean_pool": (lambda m, x: x.abs().add(0.1).pow(m.g).mean(1).pow(1 / m.g), {"g": (1,)}, (5, 4)),
    "where": (lambda m, x: torch.where(x > 0, x, m.p), {"p": (4,)}, (5, 4)),
    "masked_token": (lambda m, x: _mix(torch.where((x[..., :1] > 0.3), m.p, x)), {"p": (4,)}, (5, 4)),
    "lerp": (lambda m, x: torch.lerp(x, x.tanh(), m.p), {"p": (4,)}, (5, 4)),
    "addcmul": (lambda m, x: torch.tanh(torch.addcmul(m.b, x, m.g)), {"b": (4,), "g": (4,)}, (5, 4)),
    "maximum": (lambda m, x: torch.maximum(x, m.p), {"p": (4,)}, (5, 4)),
    "index": (lambda m, x: _mix(m.w[(x > 0).long()[..., 0]]), {"w": (2, 4)}, (5, 4)),
    "index_select": (
        lambda m, x: _mix(m.w.index_select(0, (x > 0).long()[..., 0].flatten()).view(len(x), 5, 4)),
        {"w": (2, 4)},
        (5, 4),
    ),
    "f_embedding": (lambda m, x: _mix(F.embedding((x > 0).long()[..., 0], m.w)), {"w": (2, 4)}, (5, 4)),
    "distance_to_centres": (lambda m, x: torch.cdist(x, m.c).neg().exp(), {"c": (3, 4)}, (5, 4)),
    "radial_basis": (lambda m, x: (x[:, None] - m.c).square().sum(-1).neg().exp(), {"c": (3, 4)}, (4,)),
    "cosine_classifier": (lambda m, x: F.linear(F.normalize(x), F.normalize(m.w)), {"w": (3, 4)}, (4,)),
    "gates": (lambda m, x: torch.einsum("e,eio,bi->bo", m.a.softmax(0), m.w, x), {"a": (3,), "w": (3, 4, 2)}, (4,)),
    "mixture_per_example": (
        lambda m, x: torch.einsum("be,eio,bi->bo", (x @ m.r).softmax(-1), m.w, x),
        {"r": (4, 3), "w": (3, 4, 2)},
        (4,),
    ),
    "learned_queries": (
        lambda m, x: F.scaled_dot_product_attention(m.q.expand(len(x), 2, 4), x, x),
        {"q": (2, 4)},
        (5, 4),
    ),
    "outer_with_parameter": (lambda m, x: torch.tanh(x[:, :, None] * m.w[None, None]), {"w": (3,)}, (4,)),
    "prelu_function": (lambda m, x: F.prelu(x, m.w), {"w": (4,)}, (4, 3)),
    "cumulative": (lambda m, x: torch.tanh(x + m.p.cumsum(0)), {"p": (5, 4)}, (5, 4)),
    "fourier_features": (lambda m, x: torch.cat([(x @ m.w).sin(), (x @ m.w).cos()], -1), {"w": (4, 3)}, (4,)),
    "concatenated_scalars": (
        lambda m, x: torch.cat([x, m.p.expand(len(x), 2)], 1).tanh() @ m.w,
        {"p": (2,), "w": (6, 3)},
        (4,),
    ),
}


def _mix(x: Tensor) -> Tensor:
    """Tie the positions together, so that the gradient of one depends on the others."""
    return x * torch.tanh(x.mean(1, keepdim=True))


def _written(x: Tensor, token: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = token
    return x


@case(**{name: {"name": name} for name in FUNCTIONS})
def bare(name: str) -> Built:
    function, members, shape = FUNCTIONS[name]
    return regression(Call(function, **members), normal(*shape))


@case(refuses=("vmap",))
def bare_inplace_add() -> Built:
    return regression(Call(lambda m, x: m.layer(x).add_(m.p).tanh(), layer=nn.Linear(4, 3), p=(3,)), normal(4))


@case()
def bare_inplace_multiply() -> Built:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        hidden = m.layer(x)
        hidden *= m.g
        return hidden.tanh()

    return regression(Call(forward, layer=nn.Linear(4, 3), g=(3,)), normal(5, 4))


@case()
def position_ids_of_batch_one() -> Built:
    """Positions looked up once, ids ``[1, T]``, and added to every example."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return torch.tanh(m.words(x) + m.places(torch.arange(x.shape[1], device=x.device)[None]))

    return regression(Call(forward, words=nn.Embedding(6, 4), places=nn.Embedding(5, 4)), tokens(5, 6))


@case(list={"container": "list"}, dict={"container": "dict"})
def parameter_container(container: str) -> Built:
    weights = {"a": nn.Parameter(torch.randn(4, 3)), "b": nn.Parameter(torch.randn(3, 2))}
    if container == "list":
        return regression(
            Call(lambda m, x: (x @ m.p[0]).tanh() @ m.p[1], p=nn.ParameterList(weights.values())), normal(4)
        )
    return regression(Call(lambda m, x: (x @ m.p["a"]).tanh() @ m.p["b"], p=nn.ParameterDict(weights)), normal(4))


@case()
def codebook() -> Built:
    """Vector quantisation: the nearest code is looked up, and pulled towards the encoder's output."""

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        encoded = module.encoder(batch)
        nearest = module.codes[torch.cdist(encoded.detach(), module.codes.detach()).argmin(-1)]
        quantised = encoded + (nearest - encoded).detach()
        decoded = module.decoder(quantised)
        return (
            (decoded - batch).square().sum(1)
            + (nearest - encoded.detach()).square().sum(1)
            + 0.25 * (nearest.detach() - encoded).square().sum(1)
        )

    return Call(lambda m, x: x, encoder=nn.Linear(4, 2), codes=(3, 2), decoder=nn.Linear(2, 4)), normal(4), loss
