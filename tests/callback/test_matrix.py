"""Many kinds of runs: the same to the bit with and without the callback, and with the right numbers.

The set-ups are in ``tests/callback/setups``, by family; each enters here by itself.
"""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from lightning_stiffness import StiffnessCallback, StiffnessResult
from tests.callback.runs import class_matrix_by_hand, stiffness_by_hand
from tests.callback.setups import SETUPS, Run, Setup
from tests.callback.setups.page import PAGE, written
from tests.callback.setups.trace import Outcome, Trace

SIZE = 12  # of the probe of each split


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks as small as these only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start(setup: Setup) -> Run:
    reason = setup.needs()
    if reason is not None:
        pytest.skip(reason)
    torch.manual_seed(3)
    return setup.make()


def callback_for(run: Run, **options) -> StiffnessCallback:
    return StiffnessCallback(**{"probe_size": SIZE, "on_error": "raise", **options, **run.stiffness})


@pytest.mark.parametrize("setup", [s for s in SETUPS.values() if s.refused is None], ids=lambda s: s.name)
def test_a_run_is_the_same_and_its_stiffness_right(setup, tmp_path):
    # First the run without: there are warnings that a process gives once.
    without = Outcome(start(setup), tmp_path / "without", None)
    expected = without.left_behind()
    run = start(setup)
    # Two measurements, in the middle of training and at its end, unless a set-up asks for the first one too.
    measured = Outcome(run, tmp_path / "with", callback_for(run, at_start=False))
    left = measured.left_behind()
    assert left.keys() == expected.keys()
    for what, value in expected.items():
        if what == "events":
            assert len(left[what]) == len(value)
            for mine, theirs in zip(left[what], value, strict=True):
                for a, b in zip(mine, theirs, strict=True):
                    assert a == b, f"{theirs[0]}: {a} != {b}"
        else:
            assert left[what] == value, what

    result = measured.callback.result
    assert result is not None
    told = [text for text in measured.warnings if text not in without.warnings]
    usual = ["is left out", "are left out", "% of the run"]
    usual += ["support will be removed from itertools", "have a deterministic implementation"]  # Python 3.12, GPUs
    if run.slow:  # torch.func and scripted modules have warnings of their own
        usual += ["exact but slow", "performance drop", "not a leaf Tensor"]
    assert not [text for text in told if not any(words in text for words in usual)]
    check_numbers(setup, result, measured.trace)


def test_the_page_lists_every_set_up():
    page = PAGE.read_text("utf-8")
    assert page == written(page), "python -m tests.callback.setups.page writes the list anew"


@pytest.mark.parametrize("setup", [s for s in SETUPS.values() if s.refused is not None], ids=lambda s: s.name)
def test_what_cannot_be_measured_is_refused_in_words(setup, tmp_path):
    run = start(setup)
    before = {name: value.clone() for name, value in run.module.state_dict().items()}
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the words are what counts
        Outcome(run, tmp_path, callback_for(run, on_error="warn"))
    assert setup.refused in str(caught.value)
    after = run.module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in after.items()), "trained before it was refused"


def check_numbers(setup: Setup, result: StiffnessResult, trace: Trace) -> None:
    """Class matrices and overall stiffness against one backward pass per example in float64."""
    run = start(setup)  # the random state at the start decides what is drawn for the data
    configure = getattr(run.module, "configure_model", None)
    if configure is not None:
        configure()
    run.module.load_state_dict(trace.measured)
    for name, value in trace.attributes.items():
        setattr(run.module, name, value)
    module = run.module.double().eval()
    parameters = [p for name, p in module.named_parameters() if name in trace.trainable and run.parameters(name)]
    if run.datamodule is not None:
        run.datamodule.setup("fit")
        run.train, run.val = run.datamodule.train, run.datamodule.val
    collate = run.loader.get("collate_fn", default_collate)
    gradients: dict[str, list[torch.Tensor]] = {}
    labels: dict[str, list[int]] = {}
    for split, dataset in {"train": run.train, "val": run.val}.items():
        if dataset is None:
            continue
        indices = result.probe_indices[split].tolist()
        assert len(set(indices)) == SIZE
        examples = [run.batch(collate([dataset[i]])) for i in indices]
        labels[split] = [] if run.label is None else [run.label(example) for example in examples]
        gradients[split] = [example_gradient(run, module, double(e), parameters) for e in examples]
    if run.label is None:
        assert result.class_names is None
        assert result.class_matrix == {}
    else:
        assert {split: found.tolist() for split, found in result.probe_labels.items()} == labels
    nothing = {split: [not bool((g != 0).any()) for g in rows] for split, rows in gradients.items()}
    assert result.excluded == {split: sum(each) for split, each in nothing.items()}

    for block in result.blocks:
        first, second = block.split("-")
        rows, columns = gradients[first], gradients[second]
        keep = [[not nothing[first][i] and not nothing[second][j] for j in range(SIZE)] for i in range(SIZE)]
        cosines = table(rows, columns, keep, "cos")
        for measure in ("cos", "sign"):
            if measure == "sign" and np.nanmin(np.abs(cosines)) < 1e-5:
                continue  # a sign that rounding decides
            values = table(rows, columns, keep, measure)
            pairs = np.array(keep) & ~itself(SIZE, first == second)
            overall = result.summary[block][measure]["overall"]
            assert overall == pytest.approx(values[pairs].mean(), abs=1e-5), (block, measure)
            if run.label is not None:
                expected = classes_of(values, labels[first], labels[second], first == second)
                np.testing.assert_allclose(result.class_matrix[block][measure], expected, atol=1e-5, rtol=0)


def itself(size, symmetric):
    """Pairs of an example with itself."""
    return np.eye(size, dtype=bool) if symmetric else np.zeros((size, size), dtype=bool)


def table(rows, columns, keep, measure):
    """Stiffness of every pair; NaN where one of the two has no gradient."""
    values = np.full((len(rows), len(columns)), math.nan)
    for i, row in enumerate(rows):
        inside = [j for j in range(len(columns)) if keep[i][j]]
        if inside:
            values[i, inside] = stiffness_by_hand([row], [columns[j] for j in inside], measure)[0]
    return values


def classes_of(values, first, second, symmetric):
    """The class matrix without the pairs that have no stiffness."""
    if not np.isnan(values).any() and set(first) == set(second) == {0, 1, 2, 3}:
        return class_matrix_by_hand(values.tolist(), first, second, 4, symmetric)
    present = sorted({*first, *second})
    use = ~np.isnan(values) & ~itself(len(first), symmetric)
    cells = [
        [values[np.outer(np.array(first) == a, np.array(second) == b) & use] for b in present] for a in present
    ]
    return [[cell.mean() if cell.size else math.nan for cell in line] for line in cells]


def double(batch):
    if isinstance(batch, torch.Tensor):
        return batch.double() if batch.is_floating_point() else batch
    if isinstance(batch, list | tuple) and not hasattr(batch, "_fields"):
        return type(batch)(double(entry) for entry in batch)
    if isinstance(batch, dict):
        return {key: double(entry) for key, entry in batch.items()}
    return batch  # a type of its own: the set-up's loss makes it double


def example_gradient(run, module, example, parameters):
    loss = run.loss(module, example)
    if not loss.requires_grad:
        return torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g).reshape(-1)
            for g, p in zip(found, parameters, strict=True)
        ]
    )
