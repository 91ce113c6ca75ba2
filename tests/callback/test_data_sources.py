"""Streams, samplers, several loaders: the run is the same to the bit, and the probe is taken from what it reads."""

from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.nn import functional
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
    get_worker_info,
)

from lightning_stiffness import StiffnessCallback
from lightning_stiffness.probe import build_probe
from lightning_stiffness.sources import private, source_of
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


class Wrapper(Dataset):
    """Hands on everything else to the data set within."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        return self.dataset[i]


class Handle:
    """As an open HDF5 file: not to be copied."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]

    def __reduce_ex__(self, protocol):
        raise TypeError("files cannot be pickled")


class Property(Dataset):
    items = digits(24)
    dataset = property(lambda self: self.items)

    def __len__(self):
        return 24

    def __getitem__(self, i):
        return self.items[i]


class Holes(Dataset):
    """Some files are broken."""

    def __init__(self):
        self.items = digits(24)

    def __len__(self):
        return 24

    def __getitem__(self, i):
        return None if i % 5 == 0 else self.items[i]


def without_holes(examples):
    return torch.utils.data.default_collate([example for example in examples if example is not None])


@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(Wrapper(digits(24)), 8),
        lambda: DataLoader(Wrapper(Handle(digits(24))), 8),
        lambda: DataLoader(Property(), 8),
        lambda: DataLoader(Holes(), 8, collate_fn=without_holes),
    ],
    ids=["hands on", "uncopyable", "property", "holes"],
)
def test_a_data_set_that_resists_copying_or_has_holes(loader):
    callback = StiffnessCallback(probe_size=10, save=False)
    trainer = pl.Trainer(max_epochs=1, callbacks=[callback], logger=False, enable_checkpointing=False)
    trainer.fit(Plain(), loader())
    assert len(callback.history) == 2
    indices = callback.result.probe_indices["train"].tolist()
    assert len(set(indices)) == 10
    if isinstance(trainer.train_dataloader.dataset, Holes):
        assert all(i % 5 for i in indices)


def test_data_is_not_copied_with_its_data_set():
    items = np.zeros((4, 3))
    own = private(Wrapper(items))
    assert own.dataset is items


class Endless(Sampler):
    def __init__(self, n):
        self.n, self.drawn = n, 0

    def __iter__(self):
        while True:
            self.drawn += 1
            yield self.drawn % self.n


def test_a_sampler_without_an_end_is_read_until_it_repeats_itself():
    drawn = []

    class Counted(Endless):
        def __iter__(self):
            return (drawn.append(key) or key for key in super().__iter__())

    source = source_of(DataLoader(digits(24), 8, sampler=Counted(24)), "train")
    assert sorted(source.keys) == list(range(24))
    assert len(drawn) == 24
    source = source_of(DataLoader(digits(24), 8, sampler=Counted(7)), "train")
    assert sorted(source.keys) == list(range(7))
    assert len(drawn) < 24 + 20_000
    batches = BatchSampler(Counted(24), 8, drop_last=False)
    source = source_of(DataLoader(digits(24), batch_sampler=Bunches(batches)), "train")
    assert sorted(source.keys) == list(range(24))


class Bunches:
    """A batch sampler of one's own."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_a_sampler_that_cannot_be_copied_is_refused_in_words():
    class Holding(Sampler):
        def __init__(self):
            self.keys = (i for i in range(8))

        def __iter__(self):
            return self.keys

    with pytest.raises(ValueError, match=r"drawn by a sampler that cannot be copied .*dataloaders=\{'train'"):
        source_of(DataLoader(digits(8), 4, sampler=Holding()), "train")


@pytest.mark.parametrize("length", [9, 10, 11])
def test_time_may_be_as_long_as_the_probe(length):
    data = TensorDataset(torch.randn(16, length, 3), torch.randn(16, length))

    def time_first(examples):
        return tuple(torch.stack(part, 1) for part in zip(*examples, strict=True))

    probe = build_probe(DataLoader(data, 8, collate_fn=time_first), "train", 10, seed=0)
    assert probe.singles is not None
    assert [tuple(single[0].shape) for single in probe.singles] == [(length, 1, 3)] * 10


@pytest.mark.parametrize("pad", ["after", "before", "none"])
def test_a_collate_function_that_sorts_does_not_mix_up_the_examples(pad):
    lengths = [(7 * i) % 11 + 1 for i in range(16)]
    data = [(torch.randn(n if pad != "none" else 4), n, i % 4) for i, n in enumerate(lengths)]

    def sorting(examples):
        examples = sorted(examples, key=lambda example: -example[1])
        longest = max(len(x) for x, _, _ in examples)
        fill = [(0, longest - len(x)) if pad == "after" else (longest - len(x), 0) for x, _, _ in examples]
        x = torch.stack([functional.pad(x, f) for (x, _, _), f in zip(examples, fill, strict=True)])
        return x, torch.tensor([y for _, _, y in examples]), torch.tensor([n for _, n, _ in examples])

    probe = build_probe(DataLoader(data, 8, collate_fn=sorting), "train", 12, seed=0)
    assert probe.singles is None
    assert [lengths[i] for i in probe.indices.tolist()] == probe.batches[0][2].tolist()
    assert [data[i][2] for i in probe.indices.tolist()] == probe.batches[0][1].tolist()
    again = build_probe(
        DataLoader(data, 8, collate_fn=sorting), "train", 12, seed=0, indices=probe.indices.tolist()
    )
    assert torch.equal(again.indices, probe.indices)


def test_classes_are_those_of_the_second_entry_whatever_follows():
    labels = (torch.arange(400) % 20 == 0).long()
    data = TensorDataset(torch.randn(400, 2), labels, torch.arange(400))
    probe = build_probe(DataLoader(data, 50), "train", 20, seed=0)
    assert labels[probe.indices].bincount().tolist() == [10, 10]
