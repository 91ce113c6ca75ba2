"""Whose turn it is: the examples that are taken alone in a measurement."""

from itertools import accumulate, pairwise

from lightning_stiffness.gram.familiar import anything_known, next_turn, place_of
from lightning_stiffness.gram.problem import Examples
from lightning_stiffness.gram.sure import are_alike


class Turns:
    """Chooses examples of batches of several, other ones in each measurement.

    Args:
        every: all examples.
        own: the first and behind the last of those that this process differentiates; None for all.
    """

    def __init__(self, every: Examples, own: tuple[int, int] | None = None):
        self.turn = next_turn()
        """How many measurements there were before."""
        self.like = are_alike(every.batches)
        """Whether the batches differ by nothing but their values and sizes."""
        first, last = own or (0, len(every))
        held = [(max(low, first), min(high, last)) for low, high in pairwise(accumulate(every.sizes, initial=0))]
        self.spans = [(low, high) for low, high in held if high - low > 1]
        """First and behind the last of the examples of each batch of several."""
        self.other: int | None = None
        """An example whose turn it was, and who has other calls than were known."""

    @property
    def are_alike(self) -> bool:
        """Whether there is one batch, or several that Python can tell from each other by their values alone."""
        return len(self.spans) == 1 or (self.like and len({high - low for low, high in self.spans}) == 1)

    def first(self, place: int) -> int | None:
        """The example to begin with; None in a first measurement, and where no calls are familiar.

        Args:
            place: of one that would do; where batches may be of several kinds it is another of the same batch.
        """
        spans = [span for span in self.spans if span[0] <= place < span[1]]
        if not self.turn or not spans or not anything_known():
            return None
        low, high = self.spans[self.turn % len(self.spans)] if self.are_alike else spans[0]
        return low + place_of(self.turn, high - low)

    def second(self, first: int) -> int:
        """One more example, of another batch if there is one.

        Args:
            first: the one that there is.
        """
        others = [span for span in self.spans if not span[0] <= first < span[1]]
        low, high = others[-1 - self.turn % len(others)] if others else self.spans[-1]
        if self.other is not None and self.other != first and low <= self.other < high:
            return self.other
        place = low + place_of(self.turn, high - low) if self.turn else high - 2
        return place if place != first else low + (place + 1 - low) % (high - low)

    def holds(self, place: int) -> bool:
        """Whether an example is in one of these batches."""
        return any(low <= place < high for low, high in self.spans)
