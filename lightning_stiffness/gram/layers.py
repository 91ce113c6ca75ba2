"""Which layer each parameter belongs to."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lightning_stiffness.arguments import entries, shown

OTHER = "other"
"""Name of the layer of what belongs to none of those asked for."""

Layers = bool | Sequence[str] | str | None
"""Whether layers are told apart: one for each submodule that holds parameters, or the submodules named."""


def checked_layers(wanted: Any) -> bool | list[str]:
    """Which layers are asked for: all, none, or some by name.

    Raises:
        ValueError: for anything else, also for an empty list.

    Example:
        >>> checked_layers("body"), checked_layers(None)
        (['body'], False)
    """
    if wanted is None or isinstance(wanted, bool | np.bool_):
        return bool(wanted)
    form = "True, False or names of submodules"
    layers = [wanted] if isinstance(wanted, str) else entries("per_layer", wanted, form)
    if not layers or not all(isinstance(layer, str) for layer in layers):
        raise ValueError(f"expected per_layer to be {form}, got {shown(layers)}")
    return layers


def layers_of(names: Iterable[str], wanted: Layers) -> dict[str, list[str]] | None:
    """Layer → its parameters.

    Args:
        names: of the parameters, as in ``named_parameters``.
        wanted: True for a layer of each submodule that holds parameters itself; names of submodules, each for a
            layer of everything in it, what is left being one more, called "other"; False or None for none.

    Returns:
        The layers in the order of their first parameters; None where none are wanted.

    Raises:
        ValueError: as :func:`checked_layers`, and if a name is that of no submodule with parameters, or one
            submodule lies in another.

    Example:
        >>> layers_of(["body.0.weight", "body.0.bias", "body.1.weight", "scale"], True)
        {'body.0': ['body.0.weight', 'body.0.bias'], 'body.1': ['body.1.weight'], 'scale': ['scale']}
        >>> layers_of(["body.0.weight", "body.0.bias", "body.1.weight", "scale"], ["body"])
        {'body': ['body.0.weight', 'body.0.bias', 'body.1.weight'], 'other': ['scale']}
    """
    listed, chosen = list(names), checked_layers(wanted)
    if chosen is False:
        return None
    layers: dict[str, list[str]] = {}
    if chosen is True:
        for name in listed:
            layers.setdefault(name.rpartition(".")[0] or name, []).append(name)
        return layers
    for layer in chosen:
        if not any(_inside(name, layer) for name in listed):
            known = ", ".join(list(layers_of(listed, True) or ())[:12])
            raise ValueError(
                f"expected per_layer to name submodules with parameters to measure ({known}), got {layer!r}"
            )
        nested = next((one for one in chosen if one != layer and _inside(one, layer)), None)
        if nested is not None or chosen.count(layer) > 1:
            raise ValueError(
                f"expected per_layer to name each parameter's layer once, got {layer!r} and {nested or layer!r}"
            )
    rest = OTHER if not any(_inside(name, OTHER) for name in listed) else f"{OTHER} layers"
    for name in listed:
        layer = next((layer for layer in chosen if _inside(name, layer)), rest)
        layers.setdefault(layer, []).append(name)
    return layers


def _inside(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")
