"""The random numbers that a loss draws."""

import random
import zlib

import numpy as np
import torch

OTHER = 2
"""Generators that are not torch's."""

_BITS = 6
LEVELS = 1 << _BITS
"""Numbers that a generator is made to draw in turn, from the least to the largest, evenly spaced."""

_ALIKE = 312
"""Words at the start of its state that give them: they come to an end for who draws until a number fits."""


def _word(number: int) -> int:
    """The word of the Mersenne Twister's state that it makes a number of 32 bits of: its tempering taken back
    (Matsumoto & Nishimura 1998, *ACM TOMACS* 8, 3)."""
    number ^= number >> 18
    number ^= (number << 15) & 0xEFC60000
    word = number
    for _ in range(4):
        word = number ^ ((word << 7) & 0x9D2C5680)
    number = word
    for _ in range(2):
        word = number ^ (word >> 11)
    return word & 0xFFFFFFFF


class Noise:
    """The random numbers that a loss draws: each example has its own, the same in every pass over it.

    Most losses draw none, and are not to pay for those that do: the generators are seeded before each evaluation
    only from the first draw on. What was computed before :meth:`woke` says so is to be computed again. To be used
    where the random state is kept.
    """

    def __init__(self) -> None:
        self.drawn = False
        """Whether the loss has been seen to draw numbers."""
        self.of_torch = False
        """Whether some of them were torch's own."""
        self._base: int | None = None
        self._rest: tuple[float, ...] = ()

    def seed(self, position: int, turn: int = 0) -> None:
        """Before an evaluation: the random numbers of an example or a batch, if the loss draws any.

        Args:
            position: of the example among all, or of the first one of a batch.
            turn: 0 for an example alone, 1 for a batch, more for the same batch with other numbers.
        """
        if self._base is None:  # the random state of the run decides
            self._base = zlib.crc32(torch.get_rng_state().numpy().data)
            self._lay()
            self._rest = self._peek()
            self._lay()
        if self.drawn:
            # An odd factor: no two seeds are alike in the 32 bits that the generators of the processor take.
            seed = (self._base + (8 * position + turn) * 0x9E3779B97F4A7C15) % 2**63
            self._lay(seed)
            for generator in _generators():
                generator.manual_seed(seed)

    def go_to(self, level: int) -> None:
        """After a seed: the next numbers that Python and NumPy draw are the same, from the least of all at level 0
        to the largest at the last one.

        Example:
            >>> from lightning_stiffness.gram.state import kept_random_state
            >>> with kept_random_state():
            ...     Noise().go_to(0)
            ...     least = random.random(), random.randint(3, 5)
            ...     Noise().go_to(LEVELS - 1)
            ...     least, round(np.random.rand(), 6)
            ((0.0, 3), 1.0)
        """
        # the same bits at both ends of the number, of which some take the one and some the other
        spaced = level * (0xFFFFFFFF // (LEVELS - 1))
        word = _word(spaced >> _BITS << _BITS | level)
        version, words, following = random.getstate()
        random.setstate((version, (*[word] * _ALIKE, *words[_ALIKE:-1], 0), following))
        state = np.random.get_state(legacy=False)  # noqa: NPY002
        state["state"]["key"][:_ALIKE] = word
        state["state"]["pos"] = 0
        np.random.set_state(state)  # noqa: NPY002

    def woke(self) -> bool:
        """Whether the loss drew its first numbers since the last look: then seeds count from here on."""
        if self.drawn or self._base is None:
            return False
        found = self._peek()
        self.drawn, self.of_torch = found != self._rest, found[OTHER:] != self._rest[OTHER:]
        self._lay()
        return self.drawn

    def reached(self) -> tuple[float, ...]:
        """How far each generator has come, since it was last seeded and by which seed; to be seeded again after."""
        return self._peek()

    @staticmethod
    def _lay(seed: int = 0) -> None:
        """Python and NumPy at a known place: a look at their whole states takes ten times as long."""
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the state that user code draws from

    @staticmethod
    def _peek() -> tuple[float, ...]:
        """Numbers that are others once something was drawn."""
        states = [zlib.crc32(generator.get_state().numpy().data) for generator in _generators()]
        return (random.random(), np.random.random_sample(), *states)  # noqa: NPY002


def _generators() -> list[torch.Generator]:
    """Torch's, of all devices in use."""
    initialized: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.default_generator, *(torch.cuda.default_generators if initialized else ())]
