"""Ways from a loss to the parameters that pass by no use: parts of a module that the calls do not tell about."""

from collections.abc import Iterable, Mapping

from torch import Tensor
from torch.autograd.graph import Node

from lightning_stiffness.gram.uses import Use

HIDDEN = (
    "the loss depends on it by a way of which no call is seen: through compiled or scripted code, a function of "
    "one's own, or a view changed in place"
)


def hidden(loss: Tensor, uses: Iterable[Use], parameters: Mapping[str, Tensor]) -> frozenset[str]:
    """Parameters on which a loss depends otherwise than through the uses.

    The graph is followed from the loss backwards; at a use it goes on behind the use's inputs. Whatever parameter
    is met so is used somewhere else too: in compiled or scripted code, or in a function of the user's own.

    Args:
        loss: before its backward pass.
        uses: those seen in its forward pass.
        parameters: name → parameter.
    """
    inputs: dict[Node, list[Node]] = {}
    for use in uses:
        for edge in use.edges:
            inputs.setdefault(edge.node, []).extend(use.sources)
    names = {id(parameter): name for name, parameter in parameters.items()}
    waiting: list[Node | None] = [loss.grad_fn]
    seen: set[Node] = set()
    met: set[str] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in inputs:
            waiting += inputs[node]
            continue
        name = names.get(id(getattr(node, "variable", None)))  # of the node that adds up a leaf's gradient
        if name is not None:
            met.add(name)
        waiting += [following for following, _ in node.next_functions]
    return frozenset(met)
