"""Random generators that user code keeps for itself."""

import random
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PYTHON: Any = random.random.__self__  # type: ignore[attr-defined]
_NUMPY: Any = np.random.random_sample.__self__  # type: ignore[attr-defined]


class Generators:
    """Generators of a user's own, as they are when this is made.

    Between the losses of one measurement they stand where torch's global generator tells them to: so an example
    draws the same numbers whenever its loss is computed, and other examples draw others.

    Args:
        found: generators; global ones are left out, which whoever measures keeps.

    Example:
        >>> dice = random.Random(0)
        >>> generators = Generators([dice])
        >>> torch_state = torch.get_rng_state()
        >>> generators.sow()
        >>> first = dice.random()
        >>> generators.sow()
        >>> dice.random() == first
        True
        >>> generators.put_back()
        >>> dice.random() == random.Random(0).random()
        True
    """

    def __init__(self, found: list[Any]) -> None:
        self._states = [(g, _state_of(g)) for g in {id(g): g for g in found if not _is_global(g)}.values()]
        self._sown: list[Any] = []

    def put_back(self) -> None:
        """All of them are where they were."""
        for generator, state in self._states:
            _set_state(generator, state)

    def sow(self) -> None:
        """Before a loss."""
        if self._states:
            seed = zlib.crc32(torch.get_rng_state().numpy().data)
            for generator, _ in self._states:
                _seed(generator, seed)
            self._sown = [_mark(generator) for generator, _ in self._states]

    def tell(self) -> None:
        """After a loss: where it drew numbers, Python's generator draws one, as those who measure look at that."""
        if self._states and [_mark(generator) for generator, _ in self._states] != self._sown:
            random.random()


def _is_global(generator: Any) -> bool:
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    known = [torch.default_generator, *(torch.cuda.default_generators if started else ()), _PYTHON, _NUMPY]
    return any(generator is one for one in known)


def _state_of(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, np.random.Generator):
        bits: Any = generator.bit_generator
        bits.state = type(bits)(seed).state
    elif isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    else:
        generator.seed(seed)


def _mark(generator: Any) -> Any:
    """What is another once numbers were drawn."""
    state = _state_of(generator)
    return zlib.crc32(state.numpy().data) if isinstance(state, Tensor) else repr(state)
