"""What torch's backends are told while a module is measured: products in full precision, RNNs to differentiate."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_OPERATIONS = [(backend, of) for backend in ("cuda", "mkldnn") for of in ("matmul", "conv", "rnn")]
_DEFAULTS = [("generic", "all"), ("cuda", "all"), ("mkldnn", "all")]  # an operation's without one of its own


@contextmanager
def full_precision() -> Iterator[None]:
    """Products and convolutions of float32 in float32, on processor and GPU; at the end as the user has them.

    Torch has two ways to say so, and since version 2.9 it raises an error where the older one is asked after what
    the newer one said: both are set, and both are put back.

    Example:
        >>> torch.set_float32_matmul_precision("medium")
        >>> with full_precision():
        ...     torch.get_float32_matmul_precision()
        'highest'
        >>> torch.get_float32_matmul_precision()
        'medium'
        >>> torch.set_float32_matmul_precision("highest")
    """
    precision, cudnn = _older()
    newer = _newer()
    try:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        _set(dict.fromkeys(newer, "ieee"))
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = cudnn
        _set(newer)


def _older() -> tuple[str, bool]:
    """What the older of the two ways says; where it raises an error, its defaults, with which it does so again."""
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:
        precision = "highest"
    try:
        cudnn: bool = torch.backends.cudnn.allow_tf32
    except RuntimeError:
        cudnn = True
    return precision, cudnn


def _newer() -> dict[tuple[str, str], str]:
    """What the newer one says, for each backend and operation by itself; empty before torch 2.9."""
    if not hasattr(torch._C, "_get_fp32_precision_getter"):
        return {}
    found: dict[tuple[str, str], str] = {}
    # An operation without a precision of its own answers with its default's, so the defaults are set aside.
    for place in _DEFAULTS:
        found[place] = torch._C._get_fp32_precision_getter(*place)
        _set({place: "none"})
    for place in _OPERATIONS:
        found[place] = torch._C._get_fp32_precision_getter(*place)
    _set({place: found[place] for place in _DEFAULTS})
    return found


def _set(precisions: dict[tuple[str, str], str]) -> None:
    for (backend, of), precision in precisions.items():
        torch._C._set_fp32_precision_setter(backend, of, precision)  # type: ignore[attr-defined, unused-ignore]


class DifferentiableRNNs(TorchFunctionMode):
    """Recurrent networks in evaluation mode that can be differentiated.

    The backward pass of cuDNN's LSTM, GRU and RNN raises an error unless they were called for training. Called so
    with a dropout of 0 they compute what they do in evaluation mode.

    Example:
        >>> lstm = nn.LSTM(2, 3, num_layers=2, dropout=0.5).eval()
        >>> x = torch.randn(4, 1, 2)
        >>> with DifferentiableRNNs():
        ...     torch.equal(lstm(x)[0], lstm(x)[0])
        True
    """

    supports_higher_order_operators = True  # torch.cond and its like

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function not in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu):
            return function(*args, **(kwargs or {}))
        with warnings.catch_warnings():
            # weights of a copy, or in another precision, lie apart: they are put together at every call
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous")
            return function(*_for_training(args), **(kwargs or {}))

    @staticmethod
    def needed(parts: Iterable[nn.Module]) -> bool:
        """Whether one of them is a network that cuDNN computes."""
        recurrent = [part for part in parts if isinstance(part, nn.RNNBase)]
        return any(parameter.is_cuda for part in recurrent for parameter in part.parameters(recurse=False))


def _for_training(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """… has_biases, num_layers, dropout, train, …: what comes before it depends on whether the input is packed."""
    dropout = next((i for i, value in enumerate(args) if isinstance(value, bool)), len(args)) + 2
    if len(args) <= dropout + 1 or args[dropout + 1]:
        return args
    return *args[:dropout], 0.0, True, *args[dropout + 2 :]
