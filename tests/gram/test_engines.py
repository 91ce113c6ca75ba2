"""Every engine on every case against the specification, one backward pass per example."""

import itertools
import random
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_stiffness.gram import ENGINES, BudgetError, EngineRefusal, GradientGram, gradient_gram

from .cases import CASES, Case, halves

FAST = [name for name in ENGINES if name != "loop"]


def reference(case: Case, cross: bool) -> GradientGram:
    """The Gram of the loop, in float64 whatever the case computes in."""
    module, batch, loss_fn = case.build()
    rows, columns = halves(batch) if cross else (batch, None)
    return gradient_gram(module, rows, columns, loss_fn=loss_fn, engine="loop", parameters=case.parameters)


def measured(case: Case, engine: str, cross: bool, memory_budget: int | None = None) -> GradientGram | None:
    """The Gram of an engine; None where it refuses and the case says that it may."""
    module, batch, loss_fn = case.build()
    rows, columns = halves(batch) if cross else (batch, None)
    try:
        return gradient_gram(
            module,
            rows,
            columns,
            loss_fn=loss_fn,
            engine=engine,
            memory_budget=memory_budget,
            parameters=case.parameters,
        )
    except EngineRefusal:
        # "auto" has the loop to fall back to; it may refuse only where examples change each other.
        if engine in case.refuses and engine != "auto":
            return None
        if case.couples:
            return None
        raise


def assert_same(got: GradientGram, expected: GradientGram, case: Case) -> None:
    """Inner products (cosines, where the scale is free) agree to the tolerance, relative to the two norms."""
    lost = ~torch.isfinite(expected.norms)
    assert torch.equal(~torch.isfinite(got.norms), lost)
    other_lost = ~torch.isfinite(expected.other_norms)
    assert torch.equal(~torch.isfinite(got.other_norms), other_lost)
    keep, other_keep = ~lost, ~other_lost
    expected_cosine = _over_norms(expected, expected)[keep][:, other_keep]
    got_cosine = _over_norms(got, got if case.scale_free else expected)[keep][:, other_keep]
    worst = (got_cosine - expected_cosine).abs().max()
    assert worst <= case.tolerance, f"inner products are off by {worst:.1e} of the norms"
    if not case.scale_free:
        torch.testing.assert_close(got.norms[keep], expected.norms[keep], rtol=10 * case.tolerance, atol=0)
        torch.testing.assert_close(
            got.other_norms[other_keep], expected.other_norms[other_keep], rtol=10 * case.tolerance, atol=0
        )
    else:
        assert torch.equal(got.norms[keep] > 0, expected.norms[keep] > 0)


def _over_norms(gram: GradientGram, norms: GradientGram) -> Tensor:
    """Inner products over the norms, zero where an example has no gradient."""
    return gram.values / _one_for_zero(norms.norms)[:, None] / _one_for_zero(norms.other_norms)[None, :]


def _one_for_zero(norms: Tensor) -> Tensor:
    return torch.where(norms == 0, torch.ones_like(norms), norms)


@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("engine", FAST)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_engine_equals_loop(name: str, engine: str, cross: bool) -> None:
    case = CASES[name]
    got = measured(case, engine, cross)
    if got is not None:
        assert_same(got, reference(case, cross), case)


# A few networks with layers of very different sizes: here a budget makes engines split work.
BUDGETED = [
    "perceptron",
    "linear_tokens",
    "conv2d_grouped",
    "residual_twenty",
    "tied_embedding_and_decoder",
    "vision_transformer",
    "gpt2_eager",
    "recurrent_lstm",
    "derived_low_rank",
    "weight_in_own_function",
    "mean_loss",
    "example_not_finite_nan",
]


@pytest.mark.parametrize("budget", [1, 1000, 3333, 77_777, 10_000_000])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.filterwarnings("ignore")
def test_result_does_not_depend_on_the_memory_budget(name: str, engine: str, budget: int) -> None:
    case = CASES[name]
    for cross in (False, True):
        said = ""
        try:
            got = measured(case, engine, cross, memory_budget=budget)
        except BudgetError as error:
            said = str(error)
        if said:  # an engine may say that a budget is too small, and then what would do
            found = re.search(r"take (\d+), the least that would do", said)
            assert found is not None, said
            assert int(found.group(1)) > budget
            got = measured(case, engine, cross, memory_budget=int(found.group(1)))
        if got is not None:
            assert_same(got, reference(case, cross), case)


class Trace:
    """Everything about a module and the process that a measurement must leave as it was."""

    def __init__(self, module: nn.Module):
        self.module = module
        for parameter in module.parameters():
            if parameter.requires_grad and not parameter.is_sparse:
                parameter.grad = torch.randn_like(parameter)
        self.before = self.taken()
        self.random = (random.getstate(), np.random.get_state(), torch.get_rng_state())  # noqa: NPY002

    def taken(self) -> dict[str, Any]:
        modules = dict(self.module.named_modules(remove_duplicate=False))
        parameters = dict(self.module.named_parameters(remove_duplicate=False))
        buffers = dict(self.module.named_buffers(remove_duplicate=False))
        return {
            "modules": [(name, type(m), id(m), m.training) for name, m in modules.items()],
            "slots": [
                (name, [key for key, _ in m.named_parameters(recurse=False)], [key for key, _ in m.named_buffers()])
                for name, m in modules.items()
            ],
            "attributes": [(name, sorted(m.__dict__)) for name, m in modules.items()],
            "parameters": [
                (name, id(p), type(p), p.requires_grad, p.grad_fn, id(p.grad), p.data_ptr())
                for name, p in parameters.items()
            ],
            "hooks": [
                (name, *(len(hooks) for attribute, hooks in sorted(m.__dict__.items()) if "hooks" in attribute))
                for name, m in modules.items()
            ],
            "tensor hooks": [(name, len(p._backward_hooks or ())) for name, p in parameters.items()],
            "buffers": [(name, id(b)) for name, b in buffers.items()],
            "values": [t.detach().clone() for t in (*parameters.values(), *buffers.values())],
            "grads": [None if p.grad is None else p.grad.clone() for p in parameters.values()],
            "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
            "dispatch": torch.overrides._get_current_function_mode_stack(),
        }

    def assert_unchanged(self) -> None:
        for what, after in self.taken().items():
            before = self.before[what]
            if what in ("values", "grads"):
                for one, two in zip(before, after, strict=True):
                    same = one is two or torch.equal(one.nan_to_num(), two.nan_to_num())
                    assert same, f"{what} changed"
            else:
                assert after == before, f"{what} changed"
        python, numpy, cpu = self.random
        assert random.getstate() == python
        assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy, strict=True))  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), cpu)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_no_trace(name: str, engine: str) -> None:
    case = CASES[name]
    module, batch, loss_fn = case.build()
    for submodule in list(module.modules())[::2]:  # training flags that differ from one submodule to the next
        submodule.training = not submodule.training
    trace = Trace(module)

    def drawing(module: nn.Module, batch: Any) -> Tensor:
        random.random(), np.random.rand()  # noqa: NPY002
        return loss_fn(module, batch)

    try:
        gradient_gram(module, batch, loss_fn=drawing, engine=engine, parameters=case.parameters)
    except EngineRefusal:
        assert engine in case.refuses or case.couples
    trace.assert_unchanged()


class Broken(Exception):
    """Raised by a loss on purpose."""


@pytest.mark.parametrize("calls", [1, 2, 4])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "name", ["norm_batch2d", "weight_normed_linear_new", "recurrent_lstm", "buffer_written_in_forward"]
)
@pytest.mark.filterwarnings("ignore")
def test_no_trace_after_an_exception(name: str, engine: str, calls: int) -> None:
    module, batch, loss_fn = CASES[name].build()
    trace = Trace(module)
    made = itertools.count(1)  # a number of the loss's own would be put back after each

    def breaking(module: nn.Module, batch: Any) -> Tensor:
        loss = loss_fn(module, batch)
        torch.rand(1)
        if next(made) >= calls:
            raise Broken("on purpose")
        return loss

    def four_times() -> None:
        for _ in range(4):
            gradient_gram(module, batch, loss_fn=breaking, engine=engine)

    with pytest.raises((Broken, EngineRefusal)):
        four_times()
    trace.assert_unchanged()


@pytest.mark.parametrize("engine", ENGINES)
def test_measures_under_no_grad_and_inference_mode(engine: str) -> None:
    module, batch, loss_fn = CASES["perceptron"].build()
    expected = gradient_gram(module, batch, loss_fn=loss_fn, engine="loop").values
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            got = gradient_gram(module, tuple(t.clone() for t in batch), loss_fn=loss_fn, engine=engine).values
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_auto_says_once_why_it_is_slow() -> None:
    module, batch, loss_fn = CASES["weight_in_own_function"].build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gradient_gram(module, batch, loss_fn=loss_fn)
    told = [str(w.message) for w in caught if "stiffness" in str(w.message)]
    assert len(told) == 1


def test_every_layer_of_torch_with_parameters_has_a_case() -> None:
    seen = {type(m) for case in CASES.values() for m in case.build()[0].modules()}
    # Bases and containers, layers that become another class on first use, and the dynamic fast paths' kin.
    abstract = {"Module", "RNNBase", "RNNCellBase", "Container"}
    missing = []
    for name in dir(nn):
        kind = getattr(nn, name)
        if (
            not (isinstance(kind, type) and issubclass(kind, nn.Module))
            or name in abstract
            or name.startswith("Lazy")
        ):
            continue
        if _holds_parameters(kind) and not any(issubclass(one, kind) for one in seen):
            missing.append(name)
    assert not missing, f"torch.nn layers with parameters but no case: {missing}"


def _holds_parameters(kind: type[nn.Module]) -> bool:
    attempts: list[Callable[[], nn.Module]] = [
        lambda: kind(),
        lambda: kind(4),
        lambda: kind(4, 4),
        lambda: kind(4, 4, 3),
        lambda: kind(5, 9, [3, 6]),
        lambda: kind(4, affine=True),
    ]
    for attempt in attempts:
        try:
            if any(True for _ in attempt().parameters()):
                return True
        except (TypeError, ValueError, AssertionError, AttributeError):  # noqa: PERF203
            continue
    return False
