"""Multi-head attention and the transformer layers of ``torch.nn``, in both layouts."""

import torch
from torch import nn
from torch.nn import functional as F

from .registry import Built, Call, case, normal, regression


def _swapped(x: torch.Tensor, batch_first: bool) -> torch.Tensor:
    return x if batch_first else x.transpose(0, 1)


@case(
    plain={},
    sequence_first={"batch_first": False},
    weights_unused={"need_weights": False},
    bias_kv={"add_bias_kv": True, "add_zero_attn": True},
    without_bias={"bias": False},
)
def self_attention(batch_first: bool = True, need_weights: bool = True, **options: object) -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = _swapped(x, batch_first)
        return _swapped(m.attention(x, x, x, need_weights=need_weights)[0], batch_first)

    attention = nn.MultiheadAttention(4, 2, batch_first=batch_first, **options)
    return regression(Call(forward, attention=attention), normal(5, 4))


@case(plain={}, sequence_first={"batch_first": False}, widths={"kdim": 3, "vdim": 2})
def cross_attention(batch_first: bool = True, kdim: int = 4, vdim: int = 4) -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (_swapped(x[:, low:high], batch_first) for low, high in ((0, 3), (3, 8), (8, 13)))
        out = m.attention(query, key[..., :kdim], value[..., :vdim], average_attn_weights=False)[0]
        return _swapped(out, batch_first)

    attention = nn.MultiheadAttention(4, 2, batch_first=batch_first, kdim=kdim, vdim=vdim)
    return regression(Call(forward, attention=attention), normal(13, 4))


@case(refuses=("vmap",))
def masked_attention() -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        padding = x[..., 0] > 1.0
        padding[:, 0] = False
        causal = torch.full((5, 5), float("-inf")).triu(1).to(x)
        return m.attention(x, x, x, key_padding_mask=padding.to(x) * -1e9, attn_mask=causal)[0]

    return regression(Call(forward, attention=nn.MultiheadAttention(4, 2, batch_first=True)), normal(5, 4))


@case()
def shared_query_for_all() -> Built:
    """Learned queries of batch 1, expanded over the batch, as in Perceiver and DETR."""

    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return m.attention(m.query.expand(len(x), -1, -1), x, x)[0]

    return regression(
        Call(forward, attention=nn.MultiheadAttention(4, 2, batch_first=True), query=(1, 3, 4)), normal(5, 4)
    )


@case(causal={"is_causal": True}, full={"is_causal": False})
def scaled_dot_product(is_causal: bool) -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part.unflatten(-1, (2, 2)).transpose(1, 2) for part in m.qkv(x).chunk(3, dim=-1))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        return m.out(out.transpose(1, 2).flatten(2))

    return regression(Call(forward, qkv=nn.Linear(4, 12), out=nn.Linear(4, 4)), normal(5, 4))


@case(
    plain={},
    sequence_first={"batch_first": False},
    norm_first={"norm_first": True, "activation": "gelu"},
    without_bias={"bias": False},
)
def encoder_layer(batch_first: bool = True, **options: object) -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return _swapped(m.layer(_swapped(x, batch_first)), batch_first)

    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=batch_first, **options)
    return regression(Call(forward, layer=layer), normal(5, 4))


@case(plain={}, sequence_first={"batch_first": False})
def decoder_layer(batch_first: bool = True) -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        target, memory = _swapped(x[:, :3], batch_first), _swapped(x[:, 3:], batch_first)
        return _swapped(m.layer(target, memory), batch_first)

    layer = nn.TransformerDecoderLayer(4, 2, 6, batch_first=batch_first)
    return regression(Call(forward, layer=layer), normal(8, 4))


@case()
def whole_transformer() -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(3, dtype=x.dtype)
        return m.net(x[:, 3:], x[:, :3], tgt_mask=mask)

    net = nn.Transformer(4, 2, 1, 2, 6, batch_first=True)
    return regression(Call(forward, net=net), normal(8, 4))


@case()
def encoder_stack_with_padding() -> Built:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return m.net(x, src_key_padding_mask=(torch.arange(5, device=x.device) >= 4).expand(len(x), 5))

    layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    return regression(Call(forward, net=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)), normal(5, 4))
