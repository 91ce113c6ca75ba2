"""Per-example gradients of some parameters, as a pass over some examples gives them."""

from dataclasses import dataclass, field

import torch

from lightning_stiffness.gram.devices import ROOM
from lightning_stiffness.gram.few import Few
from lightning_stiffness.gram.parts import Part
from lightning_stiffness.gram.product import Square


@dataclass
class Collected:
    """Per-example gradients of some parameters for some examples, in the order of the examples."""

    parts: dict[str, list[list[Part]]]
    """Parameter → for each piece of the examples, the parts of the parameter's uses."""
    uses: dict[str, dict[str, int]]
    """Parameter → torch function → number of calls, in the first piece."""
    sizes: list[int] = field(default_factory=list)
    """Examples in each piece."""
    scalar: bool = False
    """Whether the loss of a batch is one number."""

    def copy(self) -> "Collected":
        """The same parts, to be emptied apart from these."""
        return Collected(dict(self.parts), self.uses, self.sizes, self.scalar)

    def only(self, names: list[str]) -> "Collected":
        """The gradients by some of the parameters."""
        return Collected({name: self.parts[name] for name in names}, self.uses, self.sizes, self.scalar)

    def forms(self, names: list[str]) -> set[type[Part]]:
        """In which the gradients by some of the parameters are held."""
        return {type(part) for name in names for piece in self.parts[name] for part in piece}

    def where(self, place: int) -> tuple[int, int]:
        """The piece that an example is in, and its place there."""
        for piece, size in enumerate(self.sizes):
            if place < size:
                return piece, place
            place -= size
        raise IndexError(place)

    def compact(self) -> "Collected":
        """The same gradients, each in its smaller form."""
        parts = {name: [[part.compact() for part in one] for one in pieces] for name, pieces in self.parts.items()}
        return Collected(parts, self.uses, self.sizes, self.scalar)

    def beside(self, other: "Collected") -> "Collected":
        """The examples of both."""
        parts = {name: pieces + other.parts[name] for name, pieces in self.parts.items()}
        return Collected(parts, self.uses, self.sizes + other.sizes, self.scalar or other.scalar)

    def products(
        self, names: list[str], positions: list[int], device: torch.device, room: int = ROOM
    ) -> dict[str, Square]:
        """Inner products ``k × k`` of some parameters' gradients for a few examples."""
        indices = []
        offset = 0
        for size in self.sizes:
            indices.append([p - offset for p in positions if offset <= p < offset + size])
            offset += size
        return Few(indices, device, room).products({name: self.parts[name] for name in names})
