"""Which parameters' gradients an example alone is asked for: not those of all linear layers at once."""

from collections.abc import Hashable, Iterable, Mapping, Set

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram.calls import Call

AT_ONCE = 1 << 14
"""Entries of linear layers' parameters up to which these are taken together."""


def in_turn(
    calls: Iterable[Call], parameters: Mapping[str, Tensor], left: Set[str] | None = None
) -> tuple[list[str], frozenset[str]]:
    """Parameters whose gradients are to be held against those in a batch now, and those that are left for later.

    The gradients of a module are as large as itself, and most of that are linear layers. What a rule makes of one
    is the same for all of them: the output's gradient times the input, both of which are compared in a first
    measurement. So they are had in those after it, the smallest first, and of each shape one before more of them.
    The parameters of all other calls, and those that several calls share, are had at once.

    Args:
        calls: of one example.
        parameters: name → parameter.
        left: those that earlier measurements left; None in a first one.

    Returns:
        Both; nothing is left once every layer was taken.

    Example:
        >>> import torch
        >>> from lightning_stiffness.gram.calls import Recorder
        >>> small, large = torch.nn.Linear(300, 300), torch.nn.Linear(300, 400)
        >>> with Recorder() as recorder:
        ...     out = large(small(torch.ones(1, 300)))
        >>> parameters = {"small": small.weight, "large": large.weight}
        >>> now, later = in_turn(recorder.calls, parameters)
        >>> now, sorted(later)
        ([], ['large', 'small'])
        >>> now, later = in_turn(recorder.calls, parameters, later)
        >>> now, sorted(later)
        (['small'], ['large'])
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    takers: dict[str, list[Call]] = {name: [] for name in parameters}
    for call in calls:
        for leaf in call.given:
            if id(leaf) in names:
                takers[names[id(leaf)]].append(call)
    layers: dict[int, list[str]] = {}
    others = []
    for name, taking in takers.items():
        if len(taking) == 1 and taking[0].function is F.linear and _is_plain(taking[0], names):
            layers.setdefault(id(taking[0]), []).append(name)
        else:
            others.append(name)
    if left is None:
        return others, frozenset(name for own in layers.values() for name in own)
    shapes: dict[Hashable, list[list[str]]] = {}
    for own in layers.values():
        shapes.setdefault(_shape(takers[own[0]][0], {id(parameters[name]) for name in own}), []).append(own)
    waiting: list[tuple[bool, int, list[str]]] = []
    for alike in shapes.values():
        waits = [own for own in alike if not left.isdisjoint(own)]
        for k, own in enumerate(waits):
            met = k > 0 or len(waits) < len(alike)  # others of that shape come first
            waiting.append((met, sum(parameters[name].numel() for name in own), own))
    now: list[str] = []
    later: list[str] = []
    entries = 0
    for _, size, own in sorted(waiting, key=lambda one: one[:2]):
        if entries and entries + size > AT_ONCE:
            later += own
        else:
            now, entries = [*now, *own], entries + size
    return now, frozenset(later)


def _is_plain(call: Call, names: Mapping[int, str]) -> bool:
    """Whether a linear layer takes no parameter for its input, and no tensors with arithmetic of their own."""
    return id(call.given[0]) not in names and all(type(one) in (Tensor, nn.Parameter) for one in call.given)


def _shape(call: Call, own: set[int]) -> Hashable:
    """What tells a linear layer from others that are not alike."""
    return tuple((one.shape, one.dtype, one.device, id(one) in own) for one in call.given)
