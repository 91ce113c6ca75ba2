"""Streams, samplers, several loaders: the run is the same to the bit, and the probe is taken from what it reads."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, Sampler, get_worker_info

from lightning_stiffness import StiffnessCallback
from tests.callback.runs import digits
from tests.callback.setups.base import Plain, Run, cross_entropy
from tests.callback.setups.trace import Outcome

SIZE = 8


class Stream(IterableDataset):
    """Digits in an order drawn from the run's random state, with a count of epochs."""

    def __init__(self, n=24, seed=0):
        self.items, self.epoch = digits(n, seed, noise=3), 0

    def __iter__(self):
        self.epoch += 1
        info = get_worker_info()
        order = torch.randperm(len(self.items)).tolist()
        for i in order[info.id :: info.num_workers] if info else order:
            yield self.items[i]


class Own(Sampler):
    """Draws from the run's random state, and remembers how often."""

    def __init__(self, n):
        self.n, self.drawn = n, 0

    def __iter__(self):
        self.drawn += 1
        return iter(torch.randperm(self.n)[: self.n // 2].tolist())

    def __len__(self):
        return self.n // 2


class Loops:
    """A loader that is no DataLoader."""

    def __init__(self):
        self.batches = list(DataLoader(digits(24, noise=3), 8))

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def pairs(module, batch):
    """Labelled and unlabelled examples: the second term pulls predictions together."""
    labelled, free = batch["labelled"], batch["free"]
    return cross_entropy(module, labelled) + 0.1 * module.net(free[0]).square().mean()


def first_of_list(module, batch):
    return sum(cross_entropy(module, part) for part in batch)


def several(mode):
    return CombinedLoader([DataLoader(digits(24, noise=3), 8), DataLoader(digits(16, 2, noise=3), 4)], mode)


def loader(**options):
    return DataLoader(digits(24, noise=3), **options)


CASES = {
    "a stream": (lambda: DataLoader(Stream(), 8), cross_entropy),
    "a stream and two workers": (lambda: DataLoader(Stream(), 8, num_workers=2), cross_entropy),
    "a sampler of the user's": (lambda: loader(batch_size=4, sampler=Own(24)), cross_entropy),
    "a batch sampler": (
        lambda: loader(batch_sampler=BatchSampler(RandomSampler(range(24)), 6, drop_last=True)),
        cross_entropy,
    ),
    "batches of the user's": (lambda: loader(batch_sampler=[[3, 4, 5], [6, 7], [8, 9, 10, 11]]), cross_entropy),
    "a loader of the user's": (Loops, cross_entropy),
    "whole batches": (lambda: DataLoader(list(Loops().batches), batch_size=None, shuffle=True), cross_entropy),
    "a mapping of loaders": (
        lambda: {"labelled": DataLoader(digits(24, noise=3), 8, shuffle=True), "free": DataLoader(Stream(), 4)},
        pairs,
    ),
    "the shorter decides": (lambda: several("min_size"), first_of_list),
    "the longer decides": (lambda: several("max_size_cycle"), first_of_list),
}


def make_run(case):
    make_loader, loss = CASES[case]
    torch.manual_seed(3)

    class Module(Plain):
        def training_step(self, batch, batch_idx, dataloader_idx=0):
            return loss(self, batch)

        def train_dataloader(self):
            return make_loader()

        def val_dataloader(self):
            return DataLoader(digits(16, 1, noise=3), 8)

    return Run(Module(), loss, own_loaders=True, trainer={"max_epochs": 2})


class KeptStiffnessCallback(StiffnessCallback):
    """Keeps its probe for the test to look at."""

    def on_train_end(self, trainer, pl_module):
        self.kept = dict(self._measuring.probes)
        super().on_train_end(trainer, pl_module)


@pytest.mark.parametrize("case", CASES)
def test_the_same_run_and_the_right_numbers(case, tmp_path):
    callback = KeptStiffnessCallback(probe_size=SIZE, on_error="raise")
    left = Outcome(make_run(case), tmp_path / "with", callback).left_behind()
    expected = Outcome(make_run(case), tmp_path / "without", None).left_behind()
    for what, value in expected.items():
        assert left[what] == value, what

    loss = CASES[case][1]
    run = make_run(case)
    run.module.load_state_dict(torch.load(tmp_path / "with" / "end.ckpt", weights_only=False)["state_dict"])
    probe = callback.kept["train"]
    assert len(probe) == SIZE
    sets = {split: part.to_set(lambda batch: batch, "auto", "auto") for split, part in callback.kept.items()}
    gradients = []
    for i in range(SIZE):
        value = loss(run.module.eval(), sets["train"].examples.one(i))
        grads = torch.autograd.grad(value, list(run.module.parameters()))
        gradients.append(torch.cat([g.flatten() for g in grads]))
    table = functional.normalize(torch.stack(gradients).double(), dim=1)
    cosines = table @ table.T
    off_diagonal = cosines[~torch.eye(SIZE, dtype=torch.bool)]
    found = callback.result.summary["train-train"]["cos"]["overall"]
    assert found == pytest.approx(float(off_diagonal.mean()), abs=1e-5)


def fit(train, val=None, module=None, **options):
    torch.manual_seed(3)
    callback = KeptStiffnessCallback(probe_size=SIZE, on_error="raise", **options.pop("stiffness", {}))
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1, **options},
    )

    class Module(Plain):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("val_loss", cross_entropy(self, batch))

    trainer.fit(module or Module(), train, val)
    return callback


def test_validation_batches_that_training_step_does_not_take():
    loaders = {"labelled": DataLoader(digits(24, noise=3), 8), "free": DataLoader(digits(24, 2, noise=3), 8)}
    val = DataLoader(digits(16, 1, noise=3), 8)

    class Module(Plain):
        def training_step(self, batch, batch_idx):
            return pairs(self, batch)

    def supervised(module, batch):
        return cross_entropy(module, batch["labelled"] if isinstance(batch, dict) else batch)

    with pytest.warns(
        UserWarning, match=r"validation batches \(2 entries: Tensor, Tensor\) are built otherwise.*loss_fn="
    ):
        callback = fit(loaders, val, module=Module())
    assert callback.result.blocks == ["train-train"]
    callback = fit(loaders, val, module=Module(), stiffness={"loss_fn": supervised})
    assert callback.result.blocks == ["train-train", "train-val", "val-val"]


def test_of_several_validation_loaders_the_first_or_the_one_named():
    train = DataLoader(digits(24, noise=3), 8)
    val = [DataLoader(digits(16, 1, noise=3), 8), DataLoader(digits(12, 2, noise=3), 8)]
    with pytest.warns(UserWarning, match=r"the first of the 2 validation loaders: pass dataloaders=\{'val'"):
        first = fit(train, val)
    chosen = fit(train, val, stiffness={"dataloaders": {"val": val[1]}})
    for callback, data in ((first, val[0].dataset), (chosen, val[1].dataset)):
        probe = callback.kept["val"]
        assert torch.equal(probe.batches[0][0], data.tensors[0][probe.indices])


def test_a_run_that_overfits_is_measured_on_what_it_reads():
    callback = fit(
        DataLoader(digits(40, noise=3), 4, shuffle=True), DataLoader(digits(40, 1), 4), overfit_batches=3
    )
    assert int(callback.kept["train"].indices.max()) < 12
    assert int(callback.kept["val"].indices.max()) < 12


def test_a_stream_that_ends_too_soon():
    with pytest.raises(ValueError, match="at most 6, the number of examples in the train dataset, got 8"):
        fit(DataLoader(Stream(6), 2))


@pytest.mark.parametrize("name", ["FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy"])
def test_parameters_spread_over_processes_are_refused(name):
    kind = type(name, (), {})
    own = type("MyStrategy", (kind,), {})
    for strategy in (kind(), own()):
        trainer = SimpleNamespace(callbacks=[], strategy=strategy)
        with pytest.raises(MisconfigurationException, match=r"spreads parameters over processes.*strategy='ddp'"):
            StiffnessCallback().setup(trainer, torch.nn.Linear(1, 1), "fit")
