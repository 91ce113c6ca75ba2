"""Functions by what they do to the sign with which an example counts, and to the sign of what they give."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness.gram.calls import VIEWS


def named(*names: str) -> frozenset[Any]:
    """The functions of these names, of torch and of tensors."""
    homes = (torch, Tensor, torch.linalg, torch.special)
    return frozenset(getattr(home, name) for home in homes for name in names if hasattr(home, name))


_NORMS = named("norm", "vector_norm", "matrix_norm", "dist", "var", "std")

ADDING = named(
    *("mean", "sum", "nanmean", "nansum", "logsumexp", "norm", "vector_norm", "matrix_norm", "max", "amax", "dist"),
    *("min", "amin", "dot", "mv", "matmul", "mm", "bmm", "einsum", "trace", "count_nonzero", "index_add"),
    *("__matmul__", "__rmatmul__", "median", "tensordot", "inner", "vdot", "index_add_", "scatter_add"),
    *("scatter_add_", "index_reduce", "index_reduce_", "addmm", "addmv"),
)
"""What makes a number of all examples to which each adds its own part, or none."""

AVERAGING = named("mean", "nanmean")
"""Those of them that divide by how many numbers they take."""

SELECTING = named(
    *("__getitem__", "select", "unbind", "narrow", "split", "chunk", "index_select", "masked_select", "take"),
    *("take_along_dim", "__iter__", "tensor_split", "gather"),
)
"""What gives some of what it takes: of examples, a few."""

KEEPING = frozenset(
    {
        *(*VIEWS, *SELECTING, *named("add", "add_", "__add__", "__radd__", "__iadd__", "sub", "__sub__")),
        *named("__rsub__", "__isub__", "neg", "subtract", "negative", "rsub", "__neg__", "mean", "sum", "nanmean"),
        *named("stack", "cat", "hstack", "vstack", "concat", "concatenate", "flatten", "squeeze", "unsqueeze"),
        *named("clone", "to", "float", "double", "half", "bfloat16", "cpu", "cuda", "type", "type_as", "t"),
        *named("exp", "log", "log1p", "log2", "log10", "expm1", "sqrt", "sigmoid", "tanh", "logsumexp", "lerp"),
        *named("contiguous", "nan_to_num", "nan_to_num_", "expand", "repeat", "permute"),
        *named("cumsum", "erf", "atan", "arctan", "asinh", "sinh", "item", "detach"),
        *named("transpose", "requires_grad_", "retain_grad", "register_hook", "softplus", "nansum", "expand_as"),
        *(F.softplus, F.sigmoid, F.tanh, F.elu, F.leaky_relu, F.softsign),
        *(Tensor.T.__get__, Tensor.mT.__get__),  # type: ignore[attr-defined]
    }
)
"""What grows where one of the numbers grows that it takes; differences are the same alone."""

AT_LEAST = named("relu", "relu_", "clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_") | {F.relu}
"""What leaves numbers that are never negative as they are, where it has no other bound than zero. Else a number may
be beyond the bound in a batch, and not alone: then no example counts, or the other way round."""

CHOOSING = named("where", "masked_fill", "masked_fill_")
"""What leaves numbers out by others."""

STEPS = named("relu", "sign", "heaviside", "floor", "ceil", "round", "trunc") | {F.relu}
"""What may give zero of a number that is not."""

FINITE = named("isnan", "isfinite", "isinf", "isposinf", "isneginf")
"""What tells of numbers whether they are any."""

SCALING = named(
    *("mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply", "div", "div_", "__truediv__", "__itruediv__"),
    *("divide", "true_divide", "dot", "mv", "matmul", "__matmul__", "mm", "inner"),
)

POWERS = named(
    *("pow", "__pow__", "square", "float_power", "rsqrt", "reciprocal", "abs", "absolute", "__rdiv__"),
    *("__rtruediv__", "pow_", "square_", "abs_"),
)
"""What grows, or falls, wherever a number is that is never negative."""

SUMMING = named("sum", "mean", "count_nonzero", "nansum", "max", "amax")

SHAPING = frozenset(
    {
        *(*VIEWS, *SUMMING, *SELECTING),
        *named("expand", "squeeze", "unsqueeze", "flatten", "to", "type_as", "type", "stack", "cat", "cpu", "cuda"),
    }
)
"""What numbers say nothing of signs to."""

NO_LESS = frozenset(
    {
        *(*SHAPING, *SCALING, *POWERS),
        *named(
            "add", "add_", "__add__", "__radd__", "__iadd__", "clamp", "clamp_min", "maximum", "float", "double"
        ),
        *named("sqrt", "detach", "clone", "long", "int", "clamp_", "clamp_min_", "clip", "contiguous", "bfloat16"),
        *named("half"),
    }
)
"""What is not negative where nothing is that it takes."""

NEVER_LESS = frozenset(
    {
        *_NORMS,
        *named(
            "square", "abs", "absolute", "exp", "relu", "sigmoid", "softmax", "square_", "abs_", "count_nonzero"
        ),
        *(F.relu, F.softplus, F.sigmoid, F.softmax, F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss),
        *(F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.cross_entropy),
    }
)
"""What is never negative; losses with weights may be."""

BLANK = named("zeros", "ones", "zeros_like", "ones_like", "new_zeros", "new_ones")
"""What is made to be written to, and is not negative before."""
