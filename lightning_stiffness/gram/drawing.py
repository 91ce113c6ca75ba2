"""Calls that draw random numbers."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from lightning_stiffness.gram.monotone import named

DROPPING: dict[Any, int] = {
    **dict.fromkeys(
        (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout), 1
    ),
    **dict.fromkeys(named("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"), 1),
    F.scaled_dot_product_attention: 4,
}
"""What draws by a probability, if at all → its place."""

DRAWING: frozenset[Any] = frozenset(
    {
        *DROPPING,
        *named("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli"),
        *named("normal", "multinomial", "poisson", "bernoulli_", "normal_", "uniform_", "random_", "exponential_"),
        *named("geometric_", "log_normal_", "cauchy_"),
        F.gumbel_softmax,
    }
)
"""Functions that draw random numbers."""


def draws(function: Any, args: Any, kwargs: Any, out: Any) -> bool:
    """Whether a call draws random numbers.

    Example:
        >>> import torch
        >>> x = torch.ones(3)
        >>> draws(F.dropout, (x, 0.5), {"training": False}, x), draws(F.dropout, (x, 0.5), {}, x)
        (False, True)
    """
    if function not in DRAWING or not isinstance(out, Tensor) or not out.numel():
        return False
    place = DROPPING.get(function)
    if place is None:
        return True
    attends = place > 1
    rate = (
        args[place] if len(args) > place else kwargs.get("dropout_p" if attends else "p", 0.0 if attends else 0.5)
    )
    trains = attends or (args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True)))
    return bool(trains) and 0 < rate < 1
