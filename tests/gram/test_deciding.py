"""Modules that decide for all examples together, by how far they have come with them, what to compute."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_stiffness.gram import gradient_gram, parted
from lightning_stiffness.gram.familiar import forget
from lightning_stiffness.gram.told import Comparison, Told, watched

N = 40


class Exit(nn.Module):
    """Leaves early where the first head is sure of all examples."""

    def __init__(self):
        super().__init__()
        self.first, self.early = nn.Linear(6, 8), nn.Linear(8, 4)
        self.second, self.late = nn.Linear(8, 8), nn.Linear(8, 4)
        self.double()

    def is_sure(self, logits):
        return (logits.softmax(-1).amax(-1) > 0.7).all()

    def forward(self, x):
        h = torch.relu(self.first(x))
        logits = self.early(h)
        if self.is_sure(logits):
            return logits
        return self.late(torch.relu(self.second(h)))


class ByItem(Exit):
    """The same by a number that Python compares."""

    def is_sure(self, logits):
        return logits.detach().softmax(-1).amax(-1).min().item() > 0.7


class FixedPoint(nn.Module):
    """Iterates until all examples have arrived."""

    def __init__(self):
        super().__init__()
        self.inject, self.cell, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.double()

    def forward(self, x):
        u = self.inject(x)
        z = torch.zeros_like(u)
        for _ in range(60):
            before, z = z, torch.tanh(0.3 * self.cell(z) + u)
            if (z - before).norm() < 1e-3 * z.norm():
                break
        return self.out(z)


class Padded(nn.Module):
    """Leaves its mask out where nothing is padded, and tells its accuracy to a log."""

    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Linear(6, 8), nn.Linear(8, 4)
        self.told = 0.0
        self.double()

    def forward(self, x):
        mask = x[:, 0] != 0
        h = torch.tanh(self.first(x))
        h = h if mask.all() else h * mask[:, None]
        logits = self.out(h)
        self.told = (logits.argmax(1) == 0).double().mean().item()
        return logits


SURE = {
    "equal": lambda sure: torch.equal(sure, torch.ones_like(sure)),
    "contains": lambda sure: False not in sure,
    "numpy": lambda sure: bool(sure.numpy().all()),
    "array": lambda sure: bool(np.asarray(sure).all()),
    "list": lambda sure: all(sure.tolist()),
    "length": lambda sure: len(torch.where(~sure)[0]) == 0,
    "shape": lambda sure: (~sure).nonzero().squeeze(1).shape[0] == 0,
    "picked": lambda sure: sure[~sure].numel() == 0,
    "unique": lambda sure: len(sure.unique()) == 1 and bool(sure[0]),
    "one by one": lambda sure: min([float(one) for one in sure]) > 0,
}
"""Ways to ask whether all of a mask is true."""


class Asking(Exit):
    """Leaves early, asked for in one of these ways."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def is_sure(self, logits):
        return SURE[self.how](logits.detach().softmax(-1).amax(-1) > 0.7)


class Close(FixedPoint):
    """Iterates until two steps are close."""

    def forward(self, x):
        u = self.inject(x)
        z = torch.zeros_like(u)
        for _ in range(60):
            before, z = z, torch.tanh(0.5 * self.cell(z) + u)
            if torch.allclose(z, before, atol=1e-3, rtol=0):
                break
        return self.out(z)


def each(module, batch):
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def mean(module, batch):
    return F.cross_entropy(module(batch[0]), batch[1])


def batches(count, n=N):
    """New data each time, an example or two of which is soon sure."""
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 6, generator=generator, dtype=torch.float64) / 2
        x[n - 3] *= 20
        yield x, torch.randint(4, (n,), generator=generator)


def cosines(gram):
    return gram.values / gram.norms[:, None] / gram.norms[None, :]


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss", [each, mean])
@pytest.mark.parametrize("kind", [Exit, ByItem, FixedPoint])
def test_every_measurement_is_right(kind, loss):
    forget()
    torch.manual_seed(0)
    module = kind()
    for batch in batches(8):
        found, exact = (gradient_gram(module, batch, loss_fn=loss, engine=e) for e in ("auto", "loop"))
        torch.testing.assert_close(cosines(found), cosines(exact), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("how", SURE)
def test_whatever_python_asks(how):
    for loss in (each, mean):
        forget()
        torch.manual_seed(0)
        module, labels = Asking(how), torch.arange(12) % 4
        for step in range(6):
            x = torch.randn(12, 6, dtype=torch.float64) / 2
            x[9] *= 20 if step else 1  # which is sure, in later measurements
            batch = x, labels
            found, exact = (gradient_gram(module, batch, loss_fn=loss, engine=e) for e in ("auto", "loop"))
            torch.testing.assert_close(cosines(found), cosines(exact), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("loss", [each, mean])
def test_a_first_measurement_of_iterations(loss):
    for seed in range(8):
        forget()
        torch.manual_seed(seed)
        module, batch = Close().double(), (torch.randn(12, 6, dtype=torch.float64), torch.arange(12) % 4)
        found, exact = (gradient_gram(module, batch, loss_fn=loss, engine=e) for e in ("auto", "loop"))
        torch.testing.assert_close(cosines(found), cosines(exact), rtol=0, atol=1e-6)


def unless(is_left_out):
    def loss(module, batch):
        found = mean(module, batch)
        return found * 0 if is_left_out(found) else found

    return loss


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize(
    "left_out",
    [
        lambda loss: loss > 2,
        lambda loss: torch.isnan(loss) or not loss < 2,
        lambda loss: loss.item() > 2,
        lambda loss: 0.5 * loss.item() + 1 > 2,
        lambda loss: max(loss.tolist(), 2) > 2,
        lambda loss: float(loss) > 2,
        lambda loss: loss.detach().numpy() > 2,
        lambda loss: not np.asarray(loss.detach()) < 2,
        lambda loss: int(10 * loss) > 20,
        lambda loss: int(loss.item()) == 2,
    ],
)
def test_a_mean_that_python_leaves_out(left_out):
    """Of the batch it is not left out, and of some examples alone it is."""
    for seed in range(6):
        forget()
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
        batch = torch.randn(100, 6, dtype=torch.float64), torch.arange(100) % 4
        found, exact = (gradient_gram(module, batch, loss_fn=unless(left_out), engine=e) for e in ("auto", "loop"))
        torch.testing.assert_close(found.values, exact.values, rtol=0, atol=1e-8)


WHOLE = {
    "item": lambda low: low.sum().item() == 0,
    "truth": lambda low: not low.any().item(),
    "no other": lambda low: torch.count_nonzero(~low).item() == len(low),
    "int": lambda low: int(low.sum()) < 1,
    "list": lambda low: not any(low.tolist()),
    "range": lambda low: len(range(low.sum())) == 0,
    "index": lambda low: [True, False][low.any().long()],
    "key": lambda low: {0: True}.get(low.sum().item(), False),
    "text": lambda low: f"{low.sum().item()}" == "0",
    "numpy": lambda low: low.sum().numpy() == 0,
    "least": lambda low: 1 - min(low.sum().item(), 1),
    "calls": lambda low: torch.stack([low.new_ones(1)] * (low.sum().item() + 1)).sum() == 1,
}
"""Ways to ask in whole numbers whether none is low."""


@pytest.mark.filterwarnings("ignore:stiffness of")
@pytest.mark.parametrize("how", WHOLE)
def test_losses_that_whole_numbers_decide_on(how):
    """At the end, where three single ones are high in later measurements, and all together are not."""

    def loss(module, batch):
        losses = each(module, batch)
        return losses * (1 - 0.5 * WHOLE[how](losses.detach() < batch[2]))

    for seed in range(3):
        forget()
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
        for step in range(3):
            x, labels = torch.randn(200, 6, dtype=torch.float64), torch.randint(4, (200,))
            high = each(module, (x, labels)).detach().sort().values[-3] if step else torch.tensor(99.0).double()
            batch = x, labels, high.expand(200)
            found, exact = (gradient_gram(module, batch, loss_fn=loss, engine=e) for e in ("auto", "loop"))
            torch.testing.assert_close(found.values, exact.values, rtol=0, atol=1e-8)


COUNTING = {
    "pairs": lambda k: sum(1 for i in range(k) for j in range(i)),
    "squares": lambda k: sum(range(k * k)),
    "down": lambda k: down(k),
    "entries": lambda k: float(torch.ones(k, 2000).sum()),
    "text": lambda k: "#" * k * 500,
}
"""What counts up or down to a number, or makes so many of something."""


TOLD = []
"""For all to see: a list that a function keeps for itself is put back after each loss."""


def down(k):
    found = 0
    while k:
        found, k = found + k, k - 1
    return found


@pytest.mark.parametrize("how", COUNTING)
def test_other_numbers_are_small(how):
    """They are told to the same code, which is not to go on for ever, or to take all memory."""

    def loss(module, batch):
        losses = each(module, batch)
        k = int((losses > 1).sum())
        TOLD.append(k)
        module.told = COUNTING[how](k)
        return losses

    forget()
    TOLD.clear()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    batch = torch.randn(100, 6, dtype=torch.float64), torch.randint(4, (100,))
    assert not gradient_gram(module, batch, loss_fn=loss).plan.fallbacks
    assert min(TOLD) == 0
    assert 100 < max(TOLD) <= 200


def alone(monkeypatch):
    """How many examples were taken alone for their losses, measurement by measurement."""
    counts, look = [], parted.most_apart

    def counted(*given):
        counts[-1] += sum(part.stop - part.start == 1 for part in given[3])
        return look(*given)

    monkeypatch.setattr(parted, "most_apart", counted)
    return counts


@pytest.mark.parametrize(("kind", "count"), [(Exit, N), (FixedPoint, N), (Padded, parted.FEW)])
def test_all_examples_are_looked_at_where_they_decide(monkeypatch, kind, count):
    """By the values that they have come to: what is told of the data, or told at the end, decides on little."""
    forget()
    torch.manual_seed(0)
    module, counts = kind(), alone(monkeypatch)
    x = torch.randn(1, 6, dtype=torch.float64).expand(N, 6).contiguous()  # so that they decide alike
    for _ in range(3):
        counts.append(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gradient_gram(module, (x, torch.arange(N) % 4), loss_fn=each)
    assert counts == [N, count, count]


def looked_at(monkeypatch, module, loss):
    """The same of three measurements."""
    forget()
    torch.manual_seed(0)
    counts = alone(monkeypatch)
    batch = torch.randn(N, 6, dtype=torch.float64), torch.arange(N) % 4
    for _ in range(3):
        counts.append(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gradient_gram(module, batch, loss_fn=loss)
    return counts


def told(module, batch):
    """Says its accuracy, and whether its loss is a number."""
    logits = module(batch[0])
    losses = F.cross_entropy(logits, batch[1], reduction="none")
    module.told = (logits.argmax(1) == batch[1]).double().mean().item()
    if torch.isnan(losses.mean()) or not torch.isfinite(losses).all() or (losses != losses).any():
        raise ValueError("not a number")
    return losses


def told_of_each(module, batch):
    losses = each(module, batch)
    module.told = (
        losses.detach().numpy(),
        losses.tolist(),
        f"{losses.mean().item():.2f}",
        float(losses.detach().sum()),
    )
    total = losses.sum().item()
    if total != total or total in (float("inf"), -float("inf")):
        raise ValueError("not a number")
    return losses


def scaled(module, batch):
    """By a number that comes of parameters alone, and is the same for whatever examples."""
    scale = module[2].bias.detach().exp().sum().item() * float(module[0].bias.detach()[0])
    losses = each(module, batch)
    module.told = (losses > 1).sum().item(), int((losses > 1).any())
    return losses * scale


def of_real(module, batch):
    """Asks how many labels there are, which is no matter of what the module makes."""
    x = module[0](batch[0])[batch[1] >= 0]
    return F.cross_entropy(module[2](x.tanh())[: x.shape[0]], batch[1][batch[1] >= 0], reduction="none")


@pytest.mark.parametrize("loss", [told, told_of_each, scaled, of_real])
def test_what_decides_on_nothing(monkeypatch, loss):
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    counts = looked_at(monkeypatch, module, loss)
    assert max(counts[1:]) <= parted.FEW


def clipped(module, batch):
    """NumPy clips the targets by what is usual among them."""
    targets = batch[1].numpy()
    high = targets.mean() + 4 * targets.std() if len(targets) > 1 else math.inf
    return (module(batch[0])[:, 0] - torch.from_numpy(np.minimum(targets, high))) ** 2


def masked(module, batch):
    """Python makes a mask of lengths, which are each example's own."""
    lengths = torch.tensor((batch[1].abs() * 6).long().tolist())
    mask = torch.arange(6)[None, :] < lengths[:, None]
    return module(batch[0] * mask)[:, 0] ** 2


@pytest.mark.parametrize("loss", [clipped, masked])
def test_values_that_python_gives_back(monkeypatch, loss):
    """As they are they decide on nothing; made of all of them, each may have something of all others."""
    forget()
    torch.manual_seed(0)
    module, counts = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)).double(), alone(monkeypatch)
    slow = []
    for step in range(10):
        batch = torch.randn(N, 6, dtype=torch.float64), torch.rand(N, dtype=torch.float64)
        if step > 5:
            batch[1][31] = 40.0
        counts.append(0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = gradient_gram(module, batch, loss_fn=loss)
        slow.append(bool(caught))
        exact = gradient_gram(module, batch, loss_fn=loss, engine="loop")
        torch.testing.assert_close(found.values, exact.values, rtol=1e-9, atol=1e-9)
    assert slow == [loss is clipped and step > 5 for step in range(10)]
    assert counts[2:5] == 3 * [N]  # other data each time


class Adaptive(nn.Module):
    """Takes smaller steps where some error over all examples is large."""

    def __init__(self):
        super().__init__()
        self.slope, self.out = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 6)), nn.Linear(6, 4)

    def forward(self, x):
        at, step = 0.0, 0.5
        while at < 1:
            first = self.slope(x)
            second = self.slope(x + step * first)
            if (step / 2 * (second - first)).norm().item() / len(x) ** 0.5 > 0.05 and step > 0.05:
                step /= 2
                continue
            x, at = x + step / 2 * (first + second), at + step
            step = min(1.5 * step, 1 - at + 1e-12)
        return self.out(x)


@pytest.mark.filterwarnings("ignore:stiffness of")
def test_steps_that_hardly_change_a_loss():
    """In single precision, where losses are as near as in half the digits, and gradients are not."""
    forget()
    torch.manual_seed(0)
    module = Adaptive()
    batch = torch.randn(N, 6), torch.arange(N) % 4
    for _ in range(8):
        found, exact = (gradient_gram(module, batch, loss_fn=each, engine=e) for e in ("auto", "loop"))
        torch.testing.assert_close(cosines(found), cosines(exact), rtol=0, atol=1e-4)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(1.03)


DECIDING = {
    "less": lambda x: x < 3,
    "at most": lambda x: x <= 3,
    "equal": lambda x: x == 3,
    "truth": lambda x: bool(x - 2.5),
    "made": lambda x: -(abs(2 * x / 3 - 1) ** 2) % 5 > 0,
    "least": lambda x: min(3, x),
    "sorted": lambda x: sorted([x, 3.0]),
    "rounded": lambda x: round(x) == 2,
    "floor": lambda x: math.floor(x / 2),
    "digits": lambda x: round(x, 1) > 2,
    "of a tensor": lambda x: x > torch.tensor(3.0),
}
"""What may decide by a number."""

TELLING = {
    "text": lambda x: f"{x:.1f} {x}",
    "sum": lambda x: sum([x, 0.9 * x + 0.1]),
    "a number": lambda x: x == x and x != math.inf and not math.isnan(x),
    "tensor": lambda x: torch.tensor(x) * x,
    "array": lambda x: np.mean([x, 1.0]),
    "key": lambda x: {"loss": x, x: 1},
    "copy": lambda x: copy.deepcopy([x]),
}
"""What does not."""


@pytest.mark.parametrize("how", [*DECIDING, *TELLING])
def test_a_number_knows_whether_it_was_compared(how):
    comparison = Comparison()
    number = Told(2.5, comparison)
    result = {**DECIDING, **TELLING}[how](number)
    assert comparison.made == (how in DECIDING)
    plain = {**DECIDING, **TELLING}[how](2.5)
    assert result == plain


def test_what_is_kept_of_a_number_is_plain():
    number = Told(2.5, Comparison())
    for kept in (pickle.loads(pickle.dumps(number)), copy.copy(number), copy.deepcopy(number), float(number)):
        assert type(kept) is float
        assert kept == 2.5
    assert watched(3, Comparison()) == 3
    assert [type(one) for one in watched([1.0, 2.0], Comparison())] == [Told, Told]
    assert type(watched([1.0] * 5000, Comparison())[0]) is float


def test_what_was_refused_is_looked_at_again():
    """What was seen to be right before is not taken for right after it was not."""
    forget()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()

    def loss(module, batch):
        losses = each(module, batch)
        values = losses.detach().numpy()
        return losses * torch.from_numpy(np.where(values > values.mean() + 4 * values.std(), 0.1, 1.0))

    refused = 0
    for step in range(12):
        x = torch.randn(N, 6, generator=torch.Generator().manual_seed(step), dtype=torch.float64) / 4
        y = module(x).argmax(1)
        x[7 * step % N] *= 60
        y[7 * step % N] = module(x[7 * step % N]).argmin()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = gradient_gram(module, (x, y), loss_fn=loss)
        exact = gradient_gram(module, (x, y), loss_fn=loss, engine="loop")
        right = bool(((found.values - exact.values).abs() < 1e-9).all())
        assert right or not step
        refused += bool(caught)
    assert refused


def logged(module, batch):
    """A number of all examples is an argument, and is not compared."""
    loss = F.cross_entropy(module(batch[0])[:, :], batch[1])
    module.told = loss.detach().square() * loss.item()
    return loss


def test_an_argument_is_not_compared(monkeypatch):
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    counts = looked_at(monkeypatch, module, logged)
    assert max(counts[1:]) <= parted.FEW
