"""What forward passes over batches have shown of a loss, beside its uses of parameters."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from lightning_stiffness.gram.capture import Watcher
from lightning_stiffness.gram.deciding import may_decide
from lightning_stiffness.gram.injected import is_plain
from lightning_stiffness.gram.problem import ENDING
from lightning_stiffness.gram.reference import Reference
from lightning_stiffness.gram.references import Piece
from lightning_stiffness.gram.tail import UNSEEN


class Mixed(NamedTuple):
    """A piece over whose examples some call sums, or the like, or may."""

    piece: Piece
    loss: Tensor
    """The losses of its examples, or their mean or the like."""
    closer: bool
    """Whether there is more of it than the call that ends in such a number."""
    decides: bool = False
    """Whether it may decide for all examples what is computed of them."""
    written: bool = False
    """Whether examples are written to rows by an index, where others may find them."""
    bends: bool = False
    """Whether gradients may be others where losses are not: by the user's own functions, or by their place."""
    why: tuple[bool, ...] = ()
    """What it is looked at for, beside calls that sum."""


@dataclass
class Shown:
    """What the passes over some pieces have shown."""

    losses: dict[int, Tensor] = field(default_factory=dict)
    """First position of a piece → the losses of its examples, where each has one."""
    moved: set[int] = field(default_factory=set)
    """Positions of examples that some calls may have put elsewhere."""
    mixed: list[Mixed] = field(default_factory=list)
    along: set[str] = field(default_factory=set)
    """Functions that make values of neighbours along the axis of the examples."""
    against: set[str] = field(default_factory=set)
    """What lets an example count in a loss that is one number with another sign than alone."""
    unseen: bool = False
    """Whether some loss that is one number is made by code in which no call is seen."""
    passed: list[range] = field(default_factory=list)
    """Examples of the pieces whose loss is a number that is followed through the calls."""
    scaled: bool = False
    """Whether that of some is scaled by something that another piece may have otherwise."""
    several: bool = False
    """Whether some loss that is one number may be put together of several, each a mean over other examples."""
    chosen: bool = False
    """Whether something without a gradient that comes of parameters is part of such a loss."""
    coupled: bool = False
    """Whether some loss has something of all examples for each of them."""
    unlike: bool = False
    """Whether some piece made other calls than an example alone, or with other settings."""
    other_calls: bool = False
    """Whether some piece made other calls, whatever their settings."""
    rewired: bool = False
    """Whether some piece made the same calls with tensors from elsewhere, as another layer's weight."""

    told: bool = False
    """Whether Python was given plain numbers that come of parameters."""
    by_size: bool = False
    """Whether functions hooked to gradients change those of some piece by their size."""
    drew: bool = False
    """Whether some piece drew random numbers that an example alone does not draw."""

    def doubt(self, piece: Piece, losses: Tensor) -> None:
        """Have a closer look at a piece, whatever its calls are."""
        before = next((one for one in self.mixed if one.piece is piece), Mixed(piece, losses, True))
        self.mixed = [one for one in self.mixed if one.piece is not piece]
        self.mixed.append(before._replace(closer=True))

    def note(self, piece: Piece, watcher: Watcher, loss: Tensor, reference: Reference) -> None:
        """Keep what the forward pass of a piece has shown.

        Args:
            piece: the examples.
            watcher: saw the pass.
            loss: their losses, or their loss.
            reference: the example beside which it was watched.
        """
        start, each = piece.offset + piece.start, loss.numel() == piece.size
        self.moved |= {start + place for place in watcher.moved}
        if each:
            self.losses[start] = loss.detach()
        self.along |= watcher.along
        self.coupled |= watcher.coupling.holds(loss)
        unseen = False
        if watcher.tail is not None and not each:
            odd = watcher.tail.ends(loss)
            unseen = odd == UNSEEN
            self.unseen |= unseen
            if odd and not unseen:
                self.against.add(odd)
            self.passed.append(range(start, start + piece.size))
            self.scaled |= watcher.tail.scaled
            self.several |= watcher.tail.several or unseen
            self.chosen |= watcher.tail.chooses or unseen
        same = [call.function for call in watcher.log[: -len(ENDING)]] == watcher.functions
        self.rewired |= watcher.wiring.differs and same  # which is refused whatever else was shown
        self.other_calls |= not same
        others = watcher.unlike or not same
        self.unlike |= others
        asking = watcher.coupling.asking
        decides = any(may_decide(watcher.log, asked) for asked in asking.asked)
        self.told |= any(is_plain(watcher.log, asked) for asked in asking.asked)
        decides |= watcher.placed.used and bool(asking.lent)  # as weights that NumPy made of all values
        self.drew |= watcher.drew
        placed, own = watcher.placed.used, watcher.hooked or reference.strange
        why = (unseen, others, reference.changed_unseen, decides, placed, own)
        if watcher.mixed or any(why):
            closer = any(why) or watcher.mixed > (not each)
            self.mixed.append(Mixed(piece, loss.detach(), closer, decides, watcher.written, placed or own, why))
