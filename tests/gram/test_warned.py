"""What a caller of gradient_gram is told where the numbers may not be what was meant."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_stiffness.gram import CoupledExamples, gradient_gram
from lightning_stiffness.gram.fallback import slowly
from lightning_stiffness.gram.familiar import forget
from lightning_stiffness.gram.problem import Problem


def batch_hard(module, batch):
    """A triplet loss: of one example alone nothing is left."""
    z, labels = module(batch[0]), batch[1]
    distance, same = torch.cdist(z, z), labels[:, None] == labels[None]
    return F.relu((distance * same).amax(1) - (distance + 1e3 * same).amin(1) + 0.2).mean()


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [6, 16, 32])
def test_a_loss_between_examples(n, seed):
    """An error where the batch has a gradient, however few of its triplets are active; zeros, and a warning, where
    nothing has."""
    torch.manual_seed(seed)
    forget()
    module, labels = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double(), torch.randint(0, 3, (n,))
    batch = torch.randn(n, 4).double() + 6 * F.one_hot(labels, 4), labels
    if batch_hard(module, batch).item() > 0:
        with pytest.raises(CoupledExamples, match="compares the examples of a batch with each other"):
            gradient_gram(module, batch, loss_fn=batch_hard)
    else:
        with pytest.warns(UserWarning, match="every gradient is exactly 0"):
            assert not gradient_gram(module, batch, loss_fn=batch_hard).values.any()


LOST = {
    "detached": lambda module, batch: (module(batch[0]).detach() - batch[1]).square().mean(1),
    "a rank": lambda module, batch: (module(batch[0]).argmax(1) != batch[1].argmax(1)).double(),
    "zero": lambda module, batch: 0 * module(batch[0]).sum(1),
}


@pytest.mark.parametrize("engine", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("how", LOST)
def test_a_loss_without_a_gradient(how, engine):
    module, batch = nn.Linear(3, 2), (torch.randn(5, 3), torch.randn(5, 2))
    with pytest.warns(UserWarning, match="stiffness of Linear: every gradient is exactly 0: .* under no_grad"):
        assert not gradient_gram(module, batch, loss_fn=LOST[how], engine=engine).values.any()


def test_values_that_keep_a_factor():
    """The root of a mean weighs an example by its loss: cosines are as alone, norms are not, and it is said."""
    torch.manual_seed(0)
    module, batch = nn.Linear(3, 2).double(), (torch.randn(9, 3).double(), torch.randn(9, 2).double())

    def root(module, batch):
        return F.mse_loss(module(batch[0]), batch[1]).sqrt()

    with pytest.warns(UserWarning, match="values and norms are right up to a positive factor for each example"):
        fast = gradient_gram(module, batch, loss_fn=root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slow = gradient_gram(module, batch, loss_fn=root, engine="loop")
        gradient_gram(module, batch, loss_fn=lambda module, batch: F.mse_loss(module(batch[0]), batch[1]))
    cosines = [gram.values / gram.norms[:, None] / gram.norms for gram in (fast, slow)]
    assert torch.allclose(*cosines, atol=1e-12)
    assert not torch.allclose(fast.norms, slow.norms, rtol=0.01)


@pytest.mark.parametrize(
    ("slow", "every", "told"),
    [(1, 1, "its parameter is"), (1, 3, "1 of its 3 parameters is"), (2, 3, "2 of its 3 parameters are")],
)
def test_how_many_are_slow(slow, every, told):
    names = [f"p{k}" for k in range(every)]
    problem = Problem(nn.Linear(1, 1), None, dict.fromkeys(names))
    said = slowly(problem, "loop", dict.fromkeys(names[:slow], "a reason"))
    assert said.startswith(
        f"stiffness of Linear: {told} measured by one backward pass per example, exact but slow: p0"
    )
