"""What torch's backends are told while a module is measured, and that the user's own settings come back."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import rnn
from torch.overrides import TorchFunctionMode

from lightning_stiffness.gram import gradient_gram
from lightning_stiffness.gram.backends import DifferentiableRNNs, full_precision

HAS_NEWER = torch.__version__ >= "2.9"
newer = pytest.mark.skipif(not HAS_NEWER, reason="torch < 2.9 has only set_float32_matmul_precision and allow_tf32")

SETTINGS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "cudnn": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "cublas": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
}
NEWER: dict[str, Callable[[], None]] = {
    "newer everywhere": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "newer cublas": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "newer cudnn": lambda: setattr(torch.backends.cudnn, "fp32_precision", "tf32"),
    "newer convolutions": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    "newer processor": lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
}
EVERY = [pytest.param(s, id=name) for name, s in SETTINGS.items()]
EVERY += [pytest.param(s, id=name, marks=newer) for name, s in NEWER.items()]


def precisions() -> list[str]:
    """All that can be asked of torch; an error where it raises one."""
    asked = [
        "torch.get_float32_matmul_precision()",
        "torch.backends.cudnn.allow_tf32",
        "torch.backends.cuda.matmul.allow_tf32",
    ]
    if HAS_NEWER:
        places = ["", ".cudnn", ".cudnn.conv", ".cudnn.rnn", ".cuda.matmul", ".mkldnn", ".mkldnn.matmul"]
        asked += [f"torch.backends{place}.fp32_precision" for place in places]
    return [said(question) for question in asked]


def said(question: str) -> str:
    try:
        return str(eval(question))
    except RuntimeError as error:
        return str(error)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = precisions()
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    if HAS_NEWER:
        for place in (
            torch.backends,
            torch.backends.cudnn,
            torch.backends.cuda.matmul,
            torch.backends.mkldnn.matmul,
        ):
            place.fp32_precision = "none"
        for place in (torch.backends.cudnn.conv, torch.backends.cudnn.rnn):
            place.fp32_precision = "tf32"
    assert precisions() == before


@pytest.mark.parametrize("setting", EVERY)
def test_a_measurement_is_in_full_precision_and_leaves_the_setting(setting: Callable[[], None]) -> None:
    inside: list[list[str]] = []

    def loss_fn(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inside.append(precisions())
        return (module(batch[0]) - batch[1]).square().sum(1)

    setting()
    before = precisions()
    gradient_gram(nn.Linear(3, 2), (torch.randn(4, 3), torch.randn(4, 2)), loss_fn=loss_fn)
    assert precisions() == before
    assert all(found[:3] == ["highest", "False", "False"] for found in inside)
    reduced = {answer for found in inside for answer in found[5:] if answer in ("tf32", "bf16")}
    assert not reduced


@newer
def test_a_default_that_is_changed_afterwards_still_counts_for_its_operations() -> None:
    torch.backends.fp32_precision = "tf32"
    with full_precision():
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.mkldnn.conv.fp32_precision == "ieee"


class Seen(TorchFunctionMode):
    """The arguments of recurrent networks' calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[float, bool]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu):
            place = next(i for i, value in enumerate(args) if isinstance(value, bool))
            self.calls.append(args[place + 2 : place + 4])
        return function(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:dropout option")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k)])
def test_recurrent_networks_are_called_as_for_training_without_dropout(kind: Any, packed: bool) -> None:
    torch.manual_seed(0)
    net, x = kind(2, 3, num_layers=2, dropout=0.5, bidirectional=True).eval(), torch.randn(4, 5, 2)
    given = rnn.pack_padded_sequence(x, torch.tensor([4, 1, 3, 2, 4]), enforce_sorted=False) if packed else x
    expected = net(given)[0]
    with Seen() as seen, DifferentiableRNNs():
        got = net(given)[0]
    assert seen.calls == [(0.0, True)]
    if packed:
        expected, got = expected.data, got.data
    assert torch.equal(got, expected)


def test_a_recurrent_network_in_training_keeps_its_dropout() -> None:
    with Seen() as seen, DifferentiableRNNs():
        nn.LSTM(2, 3, num_layers=2, dropout=0.5)(torch.randn(4, 1, 2))
    assert seen.calls == [(0.5, True)]


def test_only_recurrent_networks_on_a_gpu_need_it() -> None:
    assert not DifferentiableRNNs.needed([nn.LSTM(2, 3)])
    assert not DifferentiableRNNs.needed([nn.Linear(2, 3)])
