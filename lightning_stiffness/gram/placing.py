"""Arguments given by name, put where they would stand if they were given by place."""

import inspect
from functools import cache
from itertools import takewhile
from typing import Any

from torch import Tensor
from torch.overrides import get_testing_overrides


def by_place(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with its inputs, and what stands between them, by place.

    What looks at calls looks for their inputs in the first places. Those of torch's functions may be given by name,
    in any order, or by the name that NumPy has for them. What is given by name beside an input by place stays.

    Args:
        function: what is called.
        args: by place.
        kwargs: by name.

    Example:
        >>> import torch
        >>> x, weight = torch.ones(1), torch.ones(2, 1)
        >>> by_place(torch.softmax, (), {"dim": 0, "input": x})
        ((tensor([1.]),), {'dim': 0})
        >>> by_place(torch.softmax, (x,), {"axis": 0})
        ((tensor([1.]),), {'dim': 0})
        >>> len(by_place(torch.nn.functional.linear, (), {"weight": weight, "input": x})[0])
        2
    """
    if not _OF_NUMPY.keys().isdisjoint(kwargs):
        names = _names(function)
        own = {name: torchs for name, torchs in _OF_NUMPY.items() if torchs in names and name not in names}
        kwargs = {own.get(name, name): value for name, value in kwargs.items()}
    if args:
        return args, kwargs
    found = list(takewhile(kwargs.__contains__, _names(function)))
    while found and found[-1] not in _OPERANDS and not isinstance(kwargs[found[-1]], Tensor | list | tuple):
        found.pop()  # settings
    return tuple(kwargs[name] for name in found), {k: v for k, v in kwargs.items() if k not in found}


_OPERANDS = frozenset({"other", "exponent"})
"""What stands in a second place, be it a tensor or a number."""

_OF_NUMPY = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other"}
"""NumPy's name of an argument, which torch takes as well → torch's."""


@cache
def _names(function: Any) -> tuple[str, ...]:
    """Of a function's arguments that can be given by place and by name, in order; none where they are not known."""
    known = get_testing_overrides().get(function)  # torch's own list: its functions in C++ have no signature
    if known is None:
        return ()
    parameters = inspect.signature(known).parameters.values()
    return tuple(one.name for one in takewhile(lambda p: p.kind is p.POSITIONAL_OR_KEYWORD, parameters))
