"""Ways from a loss to the parameters that pass by no use: parts of a module that the calls do not tell about."""

from collections.abc import Iterable, Mapping

from torch import Tensor
from torch.autograd.graph import Node

from lightning_stiffness.gram.loop import nodes_behind
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

    def following(node: Node) -> Iterable[Node | None]:
        return inputs[node] if node in inputs else [one for one, _ in node.next_functions]

    # the node that adds up a leaf's gradient has it as its variable
    leaves = (id(getattr(node, "variable", None)) for node in nodes_behind(loss, following))
    return frozenset(names[leaf] for leaf in leaves if leaf in names)
