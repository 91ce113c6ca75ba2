"""``torch.compile``: the Gram of a compiled module is that of the module as it was written."""

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_stiffness.gram import ENGINES, gradient_gram

BATCH = torch.randn(6, 4), torch.arange(6) % 3


def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(module(batch[0]), batch[1], reduction="none")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def whole(module: nn.Sequential, backend: str) -> nn.Module:
    return torch.compile(module, backend=backend)


def submodule(module: nn.Sequential, backend: str) -> nn.Module:
    module[0] = torch.compile(module[0], backend=backend)
    return module


def in_place(module: nn.Sequential, backend: str) -> nn.Module:
    module.compile(backend=backend)
    return module


def assert_measured(compiled: nn.Module, engine: str) -> None:
    expected = gradient_gram(network(), BATCH, loss_fn=loss, engine="loop").values
    compiled(BATCH[0])  # compiled before it is measured, as in training
    gram = gradient_gram(compiled, BATCH, loss_fn=loss, engine=engine)
    torch.testing.assert_close(gram.values, expected, rtol=1e-4, atol=1e-6)
    if hasattr(torch.compiler, "set_stance"):  # since torch 2.6: before, a whole compiled module shows no calls
        assert gram.plan is None or not gram.plan.fallbacks


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("compiled", [whole, submodule, in_place])
def test_graph_without_a_compiler(compiled: Callable[[nn.Sequential, str], nn.Module], engine: str) -> None:
    assert_measured(compiled(copy.deepcopy(network()), "aot_eager"), engine)


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler for torch.compile")
def test_compiled_to_machine_code() -> None:
    module = whole(network(), "inductor")
    try:
        module(BATCH[0])
    except Exception as error:
        pytest.skip(f"torch.compile does not work here: {type(error).__name__}")
    assert_measured(module, "auto")


PLAIN = """
import sys, torch
from torch import nn
from lightning_stiffness.gram import gradient_gram

class Compiled(nn.Module):
    "Compiles itself when it is first called."
    def __init__(self):
        super().__init__()
        self.body, self.run = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double(), None
    def forward(self, x):
        if self.run is None:
            self.run = torch.compile(self.body.forward, backend="eager")
        return self.run(x)

def loss(module, batch):
    return nn.functional.cross_entropy(module(batch[0]), batch[1], reduction="none")

batch = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
module = Compiled()
expected = gradient_gram(module.body, batch, loss_fn=loss, engine="loop").values
plain = gradient_gram(module.body, batch, loss_fn=loss).values
before = "torch._dynamo" in sys.modules
first, second = (gradient_gram(module, batch, loss_fn=loss).values for _ in range(2))
right = [bool(torch.allclose(found, expected, rtol=1e-9, atol=1e-12)) for found in (plain, first, second)]
print(before, "torch._dynamo" in sys.modules, right)
"""


def test_the_compiler_is_not_imported_for_modules_that_are_not_compiled() -> None:
    # In a new interpreter: this one has imported it. It takes longer than most first measurements.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PLAIN], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "False True [True, True, True]"), done.stderr
