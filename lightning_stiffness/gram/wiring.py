"""Whether the calls for a batch take the tensors from where those for one example take theirs."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from lightning_stiffness.gram.batch import Batch, leaves
from lightning_stiffness.gram.calls import Call
from lightning_stiffness.gram.in_place import inplace
from lightning_stiffness.gram.uses import tensors_in


class Wiring:
    """Holds the tensors of a batch's calls against those of one example's, call by call.

    A module that takes another layer for a batch makes the same calls, and where both have the same weights, as
    copies have at first, all values are the same too. Only the tensors themselves tell: a parameter has to be the
    very same one, and so has what else the module holds; the first entry of the batch has to go where that of the
    example goes, and whatever a call gave where it goes for the example.

    Args:
        module: whose calls they are.
        one: the example, as a batch.
        many: the batch.

    Example:
        >>> import torch
        >>> from lightning_stiffness.gram.calls import Recorder
        >>> one, many = (torch.ones(1, 3), torch.ones(1, 3)), (torch.ones(5, 3), torch.ones(5, 3))
        >>> net, copy = nn.Linear(3, 3), nn.Linear(3, 3)
        >>> with Recorder() as recorder:
        ...     out = net(one[0])
        >>> for entry, layer in ((0, net), (0, copy), (1, net)):
        ...     wiring = Wiring(net, one, many)
        ...     wiring.takes(recorder.calls[0], [many[entry], *layer.parameters()])
        ...     print(wiring.differs)
        False
        True
        True
    """

    def __init__(self, module: nn.Module, one: Batch, many: Batch) -> None:
        self.differs = False
        """Whether some tensor comes from elsewhere, or has a gradient in one of both alone."""
        self.strangers: list[tuple[Tensor, Tensor]] = []
        """What was taken that no call gave, nor the batch, and is of another shape for the example, as what comes
        of an array of NumPy's; with that of the example before it."""
        self._partners: dict[int, set[int]] = {}
        """Identity of a tensor of the example → those that a batch has in its place: several where a call gives one
        of them what it took, as it is."""
        self._rows: dict[int, list[Tensor]] = {}
        """Identity of a tensor that is all a call gave for the example → those that it gave for the batch, as where
        it is taken apart to a list."""
        self._module = module
        entries = dict(leaves(many))
        for path, leaf in leaves(one):
            other = entries.get(path)
            if isinstance(leaf, Tensor) and isinstance(other, Tensor):
                self._partners.setdefault(id(leaf), set()).add(id(other))

    def takes(self, call: Call, given: Sequence[Tensor]) -> None:
        """See what a call is given.

        Args:
            call: of the example, of the same function.
            given: the tensors that it takes for the batch.
        """
        own = call.given
        if len(own) != len(given):
            rows = self._rows.get(id(own[0])) if len(own) == 1 else None  # put together again, in their order
            self.differs |= rows is None or [*map(id, rows)] != [*map(id, given)]
            return
        # what is changed in place was copied for the example before
        first = int(inplace(call.function))
        for one, many in zip(own[first:], given[first:], strict=False):
            if one is many:
                continue
            known = self._partners.get(id(one))
            if known is None:
                self._partners[id(one)] = {id(many)}
                self.differs = self.differs or self._is_another(one, many)
                if one.shape != many.shape and not many.requires_grad:
                    self.strangers.append((one, many))
            elif id(many) not in known:
                self.differs = True

    def _is_another(self, one: Tensor, many: Tensor) -> bool:
        """Whether one of two tensors that no call gave belongs to the module: it is there for the other as well."""
        if isinstance(one, nn.Parameter) or isinstance(many, nn.Parameter):
            return True
        return one.shape == many.shape and any(held is one or held is many for held in _held(self._module))

    def gives(self, call: Call, made: Sequence[Tensor]) -> None:
        """See what the call gave.

        Args:
            call: of the example.
            made: its results for the batch.
        """
        tracked = call.tracked
        if len(call.made) == 1 < len(made):
            self._rows[id(call.made[0])] = [*made]
            tracked = tracked * len(made)
        if tracked != tuple([one.requires_grad for one in made]):
            self.differs = True
        for one, many in zip(call.made, made, strict=False):
            self._partners.setdefault(id(one), set()).add(id(many))


def _held(module: nn.Module) -> Iterator[Tensor]:
    """The buffers of a module, and the tensors among its other attributes, and in lists and the like of them."""
    yield from module.buffers()
    for part in module.modules():
        for value in vars(part).values():
            yield from tensors_in(value)
