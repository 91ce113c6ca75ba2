"""What ``dataloaders=`` takes for a split, and data sets that a run reads as batches."""

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from lightning_stiffness import StiffnessCallback
from tests.callback.runs import digits, fc, fit
from tests.callback.setups.base import Plain, cross_entropy

SIZE = 8


class Rows:
    """A data set of another library: rows by number, columns by name, and no data set of torch's."""

    def __init__(self, n=24):
        self.items = digits(n)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, key):
        if isinstance(key, str):
            return [getattr(row, key) for row in self]
        x, y = self.items[key]
        return {"x": x, "y": int(y)}

    def __getitems__(self, keys):
        return [self[key] for key in keys]

    def __iter__(self):
        return (self[i] for i in range(len(self)))


def of_rows(rows):
    return default_collate([(row["x"], row["y"]) for row in rows])


class Batches(Dataset):
    """Items that are whole batches, each of 8 digits."""

    def __init__(self):
        self.items = list(DataLoader(digits(24), 8))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Flow(IterableDataset):
    """The same one after the other."""

    def __iter__(self):
        return iter(Batches().items)


@pytest.mark.parametrize("place", ["alone", "in a list", "in a mapping"])
def test_rows_of_another_library_are_refused_in_words(place):
    source = {"alone": Rows(), "in a list": [Rows()], "in a mapping": {"a": DataLoader(digits(8)), "b": Rows()}}[
        place
    ]
    with pytest.raises(
        ValueError, match=r"expected dataloaders\['val'\] to be a DataLoader, .*got a Rows"
    ) as caught:
        StiffnessCallback(dataloaders={"val": source})
    message = str(caught.value)
    assert "no torch.utils.data.Dataset and does not tell whether it holds examples or batches" in message
    assert "pass DataLoader(examples, batch_size=..., collate_fn=...), or DataLoader(batches, batch" in message
    assert (" among several" in message) == (place != "alone")


def test_the_way_out_works_for_examples_and_for_batches():
    of_examples = DataLoader(Rows(), batch_size=4, collate_fn=of_rows)
    of_batches = DataLoader([of_rows([Rows()[i] for i in range(k, k + 8)]) for k in (0, 8, 16)], batch_size=None)
    for source in (of_examples, of_batches):
        callback = StiffnessCallback(probe_size=SIZE, dataloaders={"val": source}, resamples=0, on_error="raise")
        fit(callbacks=[callback], max_epochs=1)
        assert len(callback.result.probe_labels["val"]) == SIZE
        assert callback.result.class_matrix["train-val"]["cos"].shape == (4, 4)


def first_part(module, batch):
    """The loss of a batch, or of the first of several together."""
    part = batch["a"] if isinstance(batch, dict) else batch if isinstance(batch[0], torch.Tensor) else batch[0]
    assert part[0].shape[1:] == (1, 12, 12)
    return cross_entropy(module, part)


@pytest.mark.parametrize(
    "several",
    [lambda data: [data], lambda data: (data, data), lambda data: {"a": data, "b": DataLoader(data, 4)}],
    ids=["a list", "a tuple", "a mapping"],
)
def test_data_sets_among_several_hold_examples(several):
    """As one by itself does: a digit is not a batch of its rows of pixels."""

    def measured_on(source):
        torch.manual_seed(3)
        callback = StiffnessCallback(
            probe_size=SIZE, splits="val", dataloaders={"val": source}, loss_fn=first_part, on_error="raise"
        )
        fit(module=Plain(), callbacks=[callback], max_epochs=1)
        return callback.result

    data = digits(24, 1)
    found, alone = measured_on(several(data)), measured_on(data)
    assert found.probe_indices["val"].tolist() == alone.probe_indices["val"].tolist()
    for name, value in alone.summary["val-val"]["cos"].items():
        assert found.summary["val-val"]["cos"][name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("source", [Batches, Flow], ids=["by number", "a flow"])
def test_a_data_set_of_batches_that_the_run_itself_reads(source):
    """Lightning reads its items as batches: an example is one of a batch, not the batch."""

    class Module(Plain):
        def __init__(self):
            super().__init__()
            self.net = fc()

        def training_step(self, batch, batch_idx):
            assert batch[0].shape[1:] == (1, 12, 12)
            return functional.cross_entropy(self.net(batch[0]), batch[1])

    callback = StiffnessCallback(probe_size=SIZE, splits="train", on_error="raise", resamples=0)
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
    )
    trainer.fit(Module(), source())
    result = callback.result
    assert len(callback.history) == 2
    assert result.pair_counts["train-train"].sum() == SIZE * (SIZE - 1)
    assert len(result.class_names) == 4
