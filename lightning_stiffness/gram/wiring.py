"""Whether the calls for a batch take the tensors from where those for one example take theirs."""

from collections.abc import Sequence

from torch import Tensor, nn

from lightning_stiffness.gram.calls import Call, inplace


class Wiring:
    """Holds the tensors of a batch's calls against those of one example's, call by call.

    A module that takes another layer for a batch makes the same calls, and where both have the same weights, as
    copies have at first, all values are the same too. Only the tensors themselves tell: a parameter has to be the
    very same one, and whatever a call gave has to go where it goes for the example.

    Example:
        >>> import torch
        >>> from lightning_stiffness.gram.calls import Recorder
        >>> one, many = torch.ones(1, 3), torch.ones(5, 3)
        >>> weight, copy = nn.Parameter(torch.eye(3)), nn.Parameter(torch.eye(3))
        >>> with Recorder() as recorder:
        ...     out = torch.nn.functional.linear(one, weight)
        >>> wiring = Wiring()
        >>> wiring.takes(recorder.calls[0], [many, weight])
        >>> wiring.differs
        False
        >>> wiring.takes(recorder.calls[0], [many, copy])
        >>> wiring.differs
        True
    """

    def __init__(self) -> None:
        self.differs = False
        """Whether some tensor comes from elsewhere, or has a gradient in one of both alone."""
        self._partners: dict[int, set[int]] = {}
        """Identity of a tensor of the example → those that a batch has in its place: several where a call gives one
        of them what it took, as it is."""

    def takes(self, call: Call, given: Sequence[Tensor]) -> None:
        """See what a call is given.

        Args:
            call: of the example, of the same function.
            given: the tensors that it takes for the batch.
        """
        own = call.given
        if len(own) != len(given):
            self.differs = True
        # what is changed in place was copied for the example before
        for one, many in [*zip(own, given, strict=False)][int(inplace(call.function)) :]:
            if one is many:
                continue
            known = self._partners.get(id(one))
            if known is None:
                self._partners[id(one)] = {id(many)}
                self.differs |= isinstance(one, nn.Parameter) or isinstance(many, nn.Parameter)
            elif id(many) not in known:
                self.differs = True

    def gives(self, call: Call, made: Sequence[Tensor]) -> None:
        """See what the call gave.

        Args:
            call: of the example.
            made: its results for the batch.
        """
        if call.tracked != tuple([one.requires_grad for one in made]):
            self.differs = True
        for one, many in zip(call.made, made, strict=False):
            self._partners.setdefault(id(one), set()).add(id(many))
