"""Modules, batches and losses that cannot be measured: each is an error that names the culprit."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import ENGINES, EngineRefusal, LossError, gradient_gram

BATCH = torch.randn(6, 4), torch.arange(6) % 3


def loss(module: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def changed(name: str, value: float, trained: bool = True) -> nn.Module:
    module = network()
    parameter = module.get_parameter(name)
    parameter.data.flatten()[1] = value
    parameter.requires_grad_(trained)
    return module


def opposite_infinities() -> nn.Module:
    module = network()
    module[0].weight.data[0, :2] = torch.tensor([torch.inf, -torch.inf])
    return module


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.Linear(5, 3))


def integer_weight() -> nn.Module:
    module = network()
    module[2].weight = nn.Parameter(torch.ones(3, 5, dtype=torch.int8), requires_grad=False)
    return module


def nan_buffer() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).eval()
    module[1].running_mean[2] = torch.nan
    return module


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: changed("2.bias", torch.nan), r"parameter '2\.bias' holds NaN"),
        (lambda: changed("0.weight", torch.inf), r"parameter '0\.weight' holds NaN or infinite"),
        (opposite_infinities, r"parameter '0\.weight' holds NaN or infinite"),
        (lambda: changed("2.bias", torch.nan, trained=False), r"parameter '2\.bias' holds NaN, and no example"),
        (nan_buffer, r"buffer '1\.running_mean' holds NaN, and no example"),
        (lazy, r"parameter '0\.weight' is lazy"),
        (integer_weight, r"parameter '2\.weight' holds torch\.int8 values, with which Linear cannot compute"),
        (lambda: network().requires_grad_(False), "no trainable parameter"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_module(engine: str, build: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gradient_gram(build(), BATCH, loss_fn=loss, engine=engine)


def test_large_finite_parameters_are_none_of_these() -> None:
    module = network()
    module[0].weight.data.fill_(3e38)  # their sum is infinite
    gram = gradient_gram(module, (torch.zeros(6, 4), BATCH[1]), loss_fn=loss)
    assert torch.isfinite(gram.values).all()


def quantised(first: bool) -> nn.Module:
    """A network with one layer quantised by torch."""
    module = network()
    place = 0 if first else 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module[place] = torch.ao.quantization.quantize_dynamic(nn.Sequential(module[place]), {nn.Linear})[0]
    return module


needs_quantised = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="torch without quantised kernels"
)


@needs_quantised
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.filterwarnings("ignore")
def test_quantised_layer_after_a_trained_one(engine: str) -> None:
    module = quantised(first=False)
    with pytest.raises(LossError, match=r"submodule '2' \(Linear\) holds quantised weights"):
        gradient_gram(module, BATCH, loss_fn=loss, engine=engine)
    assert not any(m._forward_pre_hooks for m in module.modules())


@needs_quantised
@pytest.mark.filterwarnings("ignore")
def test_quantised_layer_before_all_trained_ones() -> None:
    module = quantised(first=True)
    expected = gradient_gram(module, BATCH, loss_fn=loss, engine="loop")
    torch.testing.assert_close(gradient_gram(module, BATCH, loss_fn=loss).values, expected.values)


class Dequantised(nn.Module):
    """Integers in a buffer, and a trained scale for them."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.scale = nn.Linear(4, 5), nn.Parameter(torch.rand(3, 1))
        self.register_buffer("integers", torch.randint(-9, 9, (3, 5), dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.enter(x)), self.integers * self.scale)


def test_integers_with_a_trained_scale_are_measured() -> None:
    torch.manual_seed(0)
    module, batch = Dequantised().double(), (BATCH[0].double(), BATCH[1])
    expected = gradient_gram(module, batch, loss_fn=loss, engine="loop").values
    gram = gradient_gram(module, batch, loss_fn=loss)
    torch.testing.assert_close(gram.values, expected, rtol=1e-9, atol=1e-12)
    assert not gram.plan.fallbacks


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ({"x": BATCH[0], "y": BATCH[1][:5]}, r"to hold 6 examples .* got batch\['y'\]: 5"),
        ((BATCH[0], [BATCH[1], BATCH[1][:4]]), r"got batch\[1\]\[1\]: 4"),
        ("words", "expected a batch with at least one tensor"),
        ((BATCH[0][:0], BATCH[1][:0]), "at least one example"),
    ],
)
def test_batch(batch: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gradient_gram(network(), batch, loss_fn=loss)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("loss_fn", "got"),
    [
        (lambda m, b: m(b[0]), r"a torch\.float32 tensor \[1, 3\]"),
        (lambda m, b: m(b[0]).argmax(1), r"a torch\.int64 tensor \[1\]"),
        (lambda m, b: None, "NoneType"),
        (lambda m, b: 0.5, "float"),
    ],
)
def test_loss(engine: str, loss_fn: Callable[..., Any], got: str) -> None:
    with pytest.raises(LossError, match=f"expected loss_fn to return .* got {got}"):
        gradient_gram(network(), BATCH, loss_fn=loss_fn, engine=engine)


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_a_batch_norm_in_training_mode(engine: str) -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = [part.training for part in module.modules()]
    with pytest.raises(LossError, match=r"Sequential can't be computed for one example alone.*evaluation mode"):
        gradient_gram(module, torch.randn(6, 4), loss_fn=lambda m, b: m.train()(b).sum(1), engine=engine)
    assert [part.training for part in module.modules()] == before


def test_a_long_list_of_lengths_is_cut_short() -> None:
    graphs = [torch.randn(nodes, 4) for nodes in range(3, 40)]
    with pytest.raises(ValueError, match=r"batch\[3\]: 6.* and 3[0-9] more\. What all"):
        gradient_gram(nn.Linear(4, 1), graphs, loss_fn=lambda m, b: m(b[0]))


def test_an_error_of_the_users_own_is_told_by_itself():
    net = nn.Linear(3, 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        gradient_gram(net, (torch.randn(4, 5),), loss_fn=lambda m, b: m(b[0]).sum(1))
    assert caught.value.__context__ is None


def test_a_loss_that_standardises_over_the_batch_has_no_gradient_of_one_example():
    """Alone it is 0 / 0."""
    torch.manual_seed(0)

    def redundancy(module, batch):
        one, two = (module(view) for view in batch)
        one, two = ((z - z.mean(0)) / z.std(0, unbiased=False) for z in (one, two))
        return (one.T @ two / len(one) - torch.eye(one.shape[1])).square().sum()

    with pytest.raises(EngineRefusal, match="compares the examples of a batch"):
        gradient_gram(nn.Linear(6, 3), (torch.randn(12, 6), torch.randn(12, 6)), loss_fn=redundancy)
