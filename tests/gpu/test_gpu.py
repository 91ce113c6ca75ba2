"""What only a GPU does: TF32, cuDNN's recurrent networks, its random state, half precision, its memory."""

import gc
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_stiffness import StiffnessCallback, measure_stiffness
from lightning_stiffness.gram import ENGINES, gradient_gram
from tests.callback.runs import Classifier, cnn, digits, fit, gradients_by_hand, stiffness_by_hand

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture
def reduced() -> Any:
    """The settings that Lightning recommends on GPUs with tensor cores; runs can be compared to the bit."""
    deterministic = torch.backends.cudnn.deterministic
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.deterministic = True
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.deterministic = deterministic


def cross_entropy(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


def probe(n: int = 24) -> tuple[Tensor, Tensor]:
    x, y = digits(n).tensors
    return x.cuda(), y.cuda()


def cosines(values: Tensor) -> Tensor:
    norms = values.diagonal().sqrt()
    return values / norms[:, None] / norms[None, :]


@pytest.mark.parametrize("engine", ENGINES)
def test_tf32_stays_out_of_a_measurement(engine: str, reduced: None) -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3200, 256), nn.Tanh(), nn.Linear(256, 4)
    ).cuda()
    batch = probe()
    got = gradient_gram(wide, batch, loss_fn=cross_entropy, engine=engine).values.cpu()
    rows = torch.stack(gradients_by_hand(wide.cpu(), batch[0].cpu(), batch[1].cpu()))
    torch.testing.assert_close(cosines(got), cosines(rows @ rows.T), rtol=0, atol=2e-6)
    assert torch.get_float32_matmul_precision() == "medium"
    assert torch.backends.cudnn.allow_tf32


class Recurrent(nn.Module):
    def __init__(self, kind: Any):
        super().__init__()
        self.net = kind(12, 16, num_layers=2, batch_first=True, dropout=0.3, bidirectional=True)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x[:, 0])[0][:, -1])


@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.filterwarnings("ignore")
def test_recurrent_networks_in_evaluation_mode(kind: Any, engine: str) -> None:
    torch.manual_seed(0)
    net, batch = Recurrent(kind).cuda(), probe()
    got = gradient_gram(net, batch, loss_fn=cross_entropy, engine=engine).values.cpu()
    rows = torch.stack(gradients_by_hand(net.cpu(), batch[0].cpu(), batch[1].cpu()))
    torch.testing.assert_close(cosines(got), cosines(rows @ rows.T), rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_is_the_same_and_its_stiffness_right(precision: str, compiled: bool, reduced: None) -> None:
    """With dropout, so that the GPU's random state counts, and a scaler of gradients in half precision."""
    found = []
    callback = StiffnessCallback(probe_size=16, on_error="raise")
    for callbacks in ([], [callback]):
        torch.manual_seed(3)
        module = Classifier(cnn())
        if compiled:
            module.net = torch.compile(module.net)
        trained, _ = fit(module=module, callbacks=callbacks, accelerator="gpu", devices=1, precision=precision)
        found.append(([*trained.state_dict().values()], torch.cuda.get_rng_state(), torch.get_rng_state()))
    (plain, *states), (weights, *others) = found
    assert all(torch.equal(a, b) for a, b in zip(plain, weights, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(states, others, strict=True))
    result = callback.result
    assert result is not None
    rows = {}
    for split, dataset in {"train": digits(40), "val": digits(24, 1)}.items():
        x, y = dataset[result.probe_indices[split].tolist()]
        rows[split] = gradients_by_hand(getattr(module.net, "_orig_mod", module.net).cpu(), x, y)
    for block in result.blocks:
        first, second = block.split("-")
        table = torch.tensor(stiffness_by_hand(rows[first], rows[second], "cos"))
        if first == second:
            table.fill_diagonal_(torch.nan)
        assert result.summary[block]["cos"]["overall"] == pytest.approx(float(table.nanmean()), abs=1e-5)


def test_a_measurement_keeps_no_memory_of_the_gpu() -> None:
    net, batch = cnn().cuda(), probe(200)
    measure_stiffness(net, batch, loss_fn=cross_entropy)
    gc.collect()
    held = torch.cuda.memory_allocated()
    measure_stiffness(net, batch, loss_fn=cross_entropy)
    gc.collect()
    assert torch.cuda.memory_allocated() == held


@pytest.mark.parametrize("budget", [60_000_000, 150_000_000])
def test_the_memory_budget_holds_on_the_gpu(budget: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), *(layer for _ in range(6) for layer in (nn.LazyLinear(1024), nn.ReLU())))
    net = nn.Sequential(net, nn.LazyLinear(4)).cuda()
    batch = (torch.randn(1000, 1024, device="cuda"), torch.randint(4, (1000,), device="cuda"))
    net(batch[0][:2])
    whole = gradient_gram(net, batch, loss_fn=cross_entropy).values.cpu()
    gc.collect()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    values = gradient_gram(net, batch, loss_fn=cross_entropy, memory_budget=budget).values.cpu()
    assert torch.cuda.max_memory_allocated() - held <= 1.25 * budget + values.nbytes
    torch.testing.assert_close(cosines(values), cosines(whole), rtol=0, atol=1e-6)


def test_a_gpu_that_runs_out_of_memory_costs_a_measurement_and_not_the_run() -> None:
    class Large(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if type(self.trainer).__name__ == "TrainerView":
                torch.empty(1 << 45, device=self.device)
            return super().training_step(batch, batch_idx)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callback = StiffnessCallback(probe_size=16)
        _, trainer = fit(module=Large(cnn()), callbacks=[callback], accelerator="gpu", devices=1)
    told = [str(w.message) for w in caught if "could not be measured" in str(w.message)]
    assert len(told) == 1
    assert "memory" in told[0]
    assert callback.failures == 3
    assert trainer.current_epoch == 2
