"""The class matrix without a Gram is that of the Gram."""

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from lightning_stiffness import gradient_gram
from lightning_stiffness.functional import class_stiffness_matrix, cosine_stiffness
from lightning_stiffness.gram import class_means
from lightning_stiffness.gram.class_means import class_gradient_sums


def cross_entropy(module, batch):
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


def make(name="conv"):
    torch.manual_seed(0)
    if name == "conv":
        layers = [nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Flatten()]
        net = nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(12, 4)).double()
        net[2].running_mean.uniform_()
    else:
        net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    x = torch.randn(40, 6).double()
    y = torch.randint(0, 4, (40,))
    return net, x + y[:, None], y


def by_gram(net, x, y, loss_fn=cross_entropy, other=None, num_classes=4):
    gram = gradient_gram(net, (x, y), other, loss_fn=loss_fn, engine="loop")
    S = cosine_stiffness(gram.values, gram.norms, gram.other_norms)
    return class_stiffness_matrix(S, y, None if other is None else other[1], num_classes=num_classes)


def sums_of(net, batches, loss_fn=cross_entropy, **options):
    return class_gradient_sums(
        net, batches, loss_fn=loss_fn, label_fn=lambda batch: batch[1], **{"num_classes": 4, **options}
    )


def close(actual, expected, atol=1e-10):
    torch.testing.assert_close(actual, expected, equal_nan=True, atol=atol, rtol=0)


@pytest.mark.parametrize("name", ["conv", "fc"])
@pytest.mark.parametrize("engine", ["auto", "vmap", "loop"])
def test_within_a_set_and_between_two(name, engine):
    net, x, y = make(name)
    net.train()
    first = sums_of(net, [(x[:9], y[:9]), (x[9:30], y[9:30])], engine=engine)
    second = sums_of(net, [(x[30:], y[30:])], engine=engine)
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    assert first.counts.tolist() == torch.bincount(y[:30], minlength=4).tolist()
    close(first.matrix(), by_gram(net, x[:30], y[:30]))
    close(first.matrix(second), by_gram(net, x[:30], y[:30], other=(x[30:], y[30:])))


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3), min_size=12, max_size=12), st.permutations(range(12)), st.integers(1, 11))
def test_any_labels_order_and_cut(labels, order, cut):
    net, x, _ = make("fc")
    x, y, order = x[:12], torch.tensor(labels), torch.tensor(order)
    a, b = order[:cut], order[cut:]
    close(sums_of(net, [(x[a], y[a]), (x[b], y[b])]).matrix(), by_gram(net, x, y))


def test_pieces_change_nothing(monkeypatch):
    net, x, y = make("fc")
    monkeypatch.setattr(class_means, "_AT_A_TIME", 7)
    close(sums_of(net, [(x, y)]).matrix(), by_gram(net, x, y))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scales_of_single_examples_drop_out(scale):
    net, x, y = make("fc")
    weights = torch.ones(40, dtype=torch.float64)
    weights[::3] = scale
    found = sums_of(net, [(x, y, weights)], lambda m, b: cross_entropy(m, b) * b[2])
    close(found.matrix(), by_gram(net, x, y), 1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_of_the_whole_batch(reduction):
    net, x, y = make("fc")

    def loss(module, batch):
        return functional.cross_entropy(module(batch[0]), batch[1], reduction=reduction)

    close(sums_of(net, [(x, y)], loss).matrix(), by_gram(net, x, y))


@pytest.mark.filterwarnings("ignore:stiffness of Sequential")
def test_losses_whose_scale_depends_on_the_batch():
    net, x, y = make("fc")

    def loss(module, batch):  # as a class-weighted mean divides
        weights = 1.0 + batch[1].double()
        return cross_entropy(module, batch) * weights / weights.sum()

    close(sums_of(net, [(x, y)], loss).matrix(), by_gram(net, x, y))


def test_examples_without_a_gradient_are_left_out_and_counted():
    net, x, y = make("fc")

    def loss(module, batch):
        return cross_entropy(module, batch) * (batch[0].abs().sum(1) < 1e5)

    x[4], x[17] = 1e7, 1e7
    found = sums_of(net, [(x, y)], loss)
    assert found.excluded == 2
    kept = torch.ones(40, dtype=torch.bool)
    kept[[4, 17]] = False
    close(found.matrix(), by_gram(net, x[kept], y[kept]))


def test_copies_single_examples_and_empty_classes():
    net, x, y = make("fc")
    x, y = torch.cat([x[:1], x[:1], x[1:2]]), torch.tensor([2, 2, 0])
    found = sums_of(net, [(x, y)]).matrix()
    close(found, by_gram(net, x, y))
    assert found[2, 2].item() == pytest.approx(1)
    assert torch.isnan(found[0, 0])
    assert torch.isnan(found[1]).all()


def test_float32_and_some_parameters():
    net, x, y = make("fc")
    net, x = net.float(), x.float()
    found = sums_of(net, [(x, y)], parameters=["2"])
    assert found.sums.shape == (4, 24)
    gram = gradient_gram(net, (x, y), loss_fn=cross_entropy, engine="loop", parameters=["2"])
    close(found.matrix(), class_stiffness_matrix(cosine_stiffness(gram.values, gram.norms), y), 1e-5)


def test_batches_with_lists():
    net, x, y = make("fc")
    batch = {"x": x, "names": [str(i) for i in range(40)], "y": y}

    def loss(module, batch):
        assert len(batch["names"]) == len(batch["x"])
        return cross_entropy(module, (batch["x"], batch["y"]))

    found = class_gradient_sums(net, [batch], loss_fn=loss, label_fn=lambda b: b["y"], num_classes=4)
    close(found.matrix(), by_gram(net, x, y))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.filterwarnings("ignore:stiffness of Checkpointed", "ignore:None of the inputs have requires_grad")
def test_checkpoints(reentrant):
    class Checkpointed(nn.Sequential):
        def forward(self, x):
            hidden = self[1](self[0](x))
            return torch.utils.checkpoint.checkpoint(self[2], hidden, use_reentrant=reentrant)

    net, x, y = make("fc")
    net = Checkpointed(*net)
    close(sums_of(net, [(x, y)]).matrix(), by_gram(net, x, y))


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_complex_parameters():
    torch.manual_seed(0)
    net = nn.Linear(6, 4).to(torch.complex128)
    x, y = torch.randn(12, 6, dtype=torch.complex128), torch.arange(12) % 4

    def loss(module, batch):
        return cross_entropy(lambda v: module(v).abs(), batch)

    close(sums_of(net, [(x, y)], loss).matrix(), by_gram(net, x, y, loss))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda batch: batch[1].double(), r"integer labels \[40\], got torch.float64 \[40\]"),
        (lambda batch: batch[1][:3], r"integer labels \[40\], got torch.int64 \[3\]"),
        (lambda batch: [0], r"integer labels \[40\], got list"),
        (lambda batch: batch[1] + 2, r"labels in \[0, 4\), got values from 2 to 5"),
        (lambda batch: batch[1] - 1, r"labels in \[0, 4\), got values from -1 to 2"),
    ],
)
def test_mistakes(labels, message):
    net, x, y = make("fc")
    with pytest.raises(ValueError, match=message):
        class_gradient_sums(net, [(x, y)], loss_fn=cross_entropy, label_fn=labels, num_classes=4)
