"""The probe: fixed, stratified, and chosen without touching the run."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from lightning_stiffness.fields import find_inputs, find_labels
from lightning_stiffness.probe import build_probe
from lightning_stiffness.strata import dataset_labels, stratified


class Pictures(Dataset):
    """Labels only in the examples, class 0 nine times as frequent, and a counter that access changes."""

    def __init__(self, n=200):
        self.n, self.reads = n, 0

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.reads += 1
        return torch.rand(2, 3) + i, int(i % 10 == 0)


def test_classes_in_equal_numbers_even_where_only_examples_tell():
    data = Pictures()
    probe = build_probe(DataLoader(data, batch_size=4), "train", 20, seed=0)
    assert data.reads == 0  # read through a copy of the dataset object
    labels = probe.batches[0][1]
    seen = min(40 // 10 + 4, 10)
    assert 2 <= int(labels.sum()) <= seen
    assert torch.equal(probe.batches[0][0].floor()[:, 0, 0].long(), probe.indices)


def test_stratified_takes_as_equally_as_there_are():
    labels = torch.tensor([0] * 50 + [1] * 3 + [2] * 10)
    counts = torch.bincount(labels[stratified(labels, 30)])
    assert counts.tolist() == [17, 3, 10]


def test_the_same_seed_gives_the_same_probe_and_another_seed_another():
    data = TensorDataset(torch.rand(60, 3), torch.arange(60) % 3)
    loader = DataLoader(data, batch_size=4, shuffle=True)
    a, b, c = (build_probe(loader, "train", 12, seed=seed).indices for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_random_state_and_loader_stay_untouched():
    loader = DataLoader(Pictures(), batch_size=4, shuffle=True)
    torch.manual_seed(0)
    expected = [x.sum().item() for x, _ in loader]
    torch.manual_seed(0)
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    build_probe(loader, "train", 20, seed=3)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert [x.sum().item() for x, _ in loader] == expected


def test_labels_of_wrapped_datasets():
    base = TensorDataset(torch.zeros(5, 1), torch.tensor([4, 3, 2, 1, 0]))
    both = ConcatDataset([Subset(base, [1, 0]), base])
    assert dataset_labels(both).tolist() == [3, 4, 4, 3, 2, 1, 0]
    assert dataset_labels(Pictures()) is None
    assert dataset_labels(TensorDataset(torch.zeros(5, 1), torch.rand(5))) is None
    assert dataset_labels(TensorDataset(torch.zeros(5, 1))) is None


def test_identity_tells_the_same_item_through_wrappers_and_different_datasets_apart():
    base = TensorDataset(torch.arange(8.0)[:, None], torch.arange(8) % 2)
    other = TensorDataset(torch.arange(8.0)[:, None], torch.arange(8) % 2)
    picked = Subset(ConcatDataset([Subset(base, [5, 6]), other]), [1, 4, 0])
    whole = build_probe(DataLoader(base), "train", 8, seed=0)
    part = build_probe(DataLoader(picked), "val", 3, seed=0)
    by_value = dict(zip(whole.batches[0][0][:, 0].tolist(), whole.identity.tolist(), strict=True))
    found = dict(zip(part.batches[0][0][:, 0].tolist(), part.identity.tolist(), strict=True))
    assert found[6.0] == by_value[6.0]
    assert found[5.0] == by_value[5.0]
    assert found[2.0] not in by_value.values()


def test_a_collate_function_of_the_loaders_own():
    def collate(samples):
        return {"pixels": torch.stack([s[0] for s in samples]) * 2, "label": torch.tensor([s[1] for s in samples])}

    data = [(torch.full((2,), float(i)), i % 2) for i in range(10)]
    probe = build_probe(DataLoader(data, collate_fn=collate), "train", 4, seed=0)
    assert probe.singles is None
    assert torch.equal(probe.batches[0]["pixels"][:, 0], probe.indices * 2.0)
    assert find_labels(probe.batches[0], 4).tolist() == (probe.indices % 2).tolist()
    assert torch.equal(find_inputs(probe.batches[0], 4), probe.batches[0]["pixels"])


def test_batches_that_cannot_be_cut_are_kept_one_by_one():
    class Graph:
        def __init__(self, nodes):
            self.nodes = nodes

    data = [torch.rand(i + 1, 2) for i in range(6)]
    probe = build_probe(DataLoader(data, collate_fn=lambda samples: Graph(torch.cat(samples))), "train", 4, seed=0)
    assert [len(graph.nodes) for graph in probe.singles] == (probe.indices + 1).tolist()


@pytest.mark.parametrize(
    ("batch", "labels"),
    [
        ((torch.zeros(3, 2), torch.tensor([2, 0, 1])), [2, 0, 1]),
        ([torch.zeros(3, 2), torch.tensor([[2], [0], [1]])], [2, 0, 1]),
        ({"x": torch.zeros(3, 2), "target": torch.tensor([2, 0, 1])}, [2, 0, 1]),
        ((torch.zeros(3, 2), torch.tensor([1.0, 0.0, 1.0])), [1, 0, 1]),
        ((torch.zeros(3, 2), torch.tensor([True, False, True])), [1, 0, 1]),
        ((torch.zeros(3, 2), torch.tensor([0.5, 0.1, 1.0])), None),
        ((torch.zeros(3, 2), torch.zeros(3, 5, dtype=torch.long)), None),
        ({"input_ids": torch.zeros(3, 2, dtype=torch.long)}, None),
        (torch.zeros(3, 2), None),
    ],
)
def test_where_labels_are_found(batch, labels):
    found = find_labels(batch, 3)
    assert (None if found is None else found.tolist()) == labels


def values(probe):
    """First feature of every example, in order."""
    return torch.cat(
        [batch[0].reshape(size, -1)[:, 0] for batch, size in zip(probe.batches, probe.sizes, strict=True)]
    )


class Stream(IterableDataset):
    """Examples 0, 1, 2, … of classes 0, 1, 0, 1, …, and a count of how many were read."""

    def __init__(self, n=50, batches=0):
        self.n, self.batches, self.read = n, batches, 0

    def __iter__(self):
        for i in range(self.n):
            self.read += 1
            if self.batches:
                x = torch.arange(self.batches) + i * self.batches
                yield x.float()[:, None], x % 2
            else:
                yield torch.tensor([float(i)]), i % 2


def test_a_stream_is_read_from_a_copy():
    data = Stream()
    probe = build_probe(DataLoader(data, batch_size=4), "train", 10, seed=0)
    assert data.read == 0
    assert len(probe) == 10
    assert torch.equal(values(probe).long(), probe.indices)
    assert probe.batches[0][1].sum() == 5
    assert torch.equal(build_probe(DataLoader(data), "train", 10, seed=0).indices, probe.indices)
    with pytest.raises(ValueError, match="at most 50, the number of examples in the train dataset, got 60"):
        build_probe(DataLoader(data), "train", 60, seed=0)


def test_a_stream_that_cannot_be_copied_is_refused_in_words():
    class Once(IterableDataset):
        def __init__(self):
            self.items = (x for x in range(4))

        def __iter__(self):
            return self.items

    with pytest.raises(ValueError, match=r"Once.* is a stream that cannot be copied.*dataloaders=\{'train'"):
        build_probe(DataLoader(Once()), "train", 2, seed=0)


@pytest.mark.parametrize("wrapped", [True, False], ids=["DataLoader", "own loader"])
def test_a_loader_of_whole_batches(wrapped):
    data = Stream(n=5, batches=4)
    probe = build_probe(DataLoader(data, batch_size=None) if wrapped else data, "train", 10, seed=0)
    assert probe.sizes == (4, 4, 2)
    assert values(probe).tolist() == list(range(10))
    assert len(set(probe.identity.tolist())) == 10
    found = probe.to_set(lambda batch: batch, "auto", "auto")
    assert found.labels.tolist() == [0, 1] * 5
    assert found.inputs.flatten().tolist() == list(range(10))


def test_a_dataset_of_whole_batches():
    class Shards(Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, i):
            return torch.full((3, 2), float(i)), torch.arange(3)

    probe = build_probe(DataLoader(Shards(), batch_size=None, shuffle=True), "train", 8, seed=0)
    assert probe.sizes == (3, 3, 2)
    assert len(values(probe).unique()) == 3
    assert len(set(probe.identity.tolist())) == 8


def test_a_loader_without_batches_gives_examples():
    data = [(torch.full((3, 4, 4), float(i)), i % 2) for i in range(9)]
    probe = build_probe(DataLoader(data, batch_size=None), "train", 5, seed=0)
    assert probe.sizes == (1,) * 5
    assert probe.singles is not None


class Picky(Sampler):
    """The user's own: every third example, in random order, and a count of how often it was asked."""

    def __init__(self, data):
        self.data, self.asked = data, 0

    def __iter__(self):
        self.asked += 1
        return iter([3 * int(i) for i in torch.randperm(len(self.data) // 3)])

    def __len__(self):
        return len(self.data) // 3


DATA = TensorDataset(torch.arange(60.0)[:, None], torch.arange(60) % 3)


@pytest.mark.parametrize(
    ("loader", "allowed"),
    [
        (DataLoader(DATA, 4, sampler=SubsetRandomSampler(range(20, 40))), range(20, 40)),
        (DataLoader(DATA, 4, sampler=WeightedRandomSampler([0.0] * 50 + [1.0] * 10, 99)), range(50, 60)),
        (DataLoader(DATA, 4, sampler=Picky(DATA)), range(0, 60, 3)),
        (DataLoader(DATA, batch_sampler=BatchSampler(SubsetRandomSampler(range(9)), 4, False)), range(9)),
        (DataLoader(DATA, batch_sampler=[[1, 2, 3], [4, 5], [6, 7, 8, 1]]), range(1, 9)),
        (DataLoader(DATA, 4, sampler=DistributedSampler(DATA, num_replicas=2, rank=0)), range(60)),
    ],
    ids=["subset", "weighted", "own sampler", "batch sampler", "own batches", "distributed"],
)
def test_only_what_the_samplers_give(loader, allowed):
    probe = build_probe(loader, "train", 8, seed=0)
    assert len(set(probe.indices.tolist())) == 8
    assert set(probe.indices.tolist()) <= set(allowed)
    assert torch.equal(values(probe).long(), probe.indices)
    assert getattr(loader.sampler, "asked", 0) == 0


def test_an_endless_sampler():
    class Endless(Sampler):
        def __iter__(self):
            return itertools.cycle([5, 6, 7])

    probe = build_probe(DataLoader(DATA, 4, sampler=Endless()), "train", 3, seed=0)
    assert sorted(probe.indices.tolist()) == [5, 6, 7]


def test_keys_that_are_no_numbers():
    class Named(Dataset):
        def __getitem__(self, key):
            return torch.tensor([float(ord(key))]), ord(key) % 2

    probe = build_probe(DataLoader(Named(), 2, sampler=list("abcdef")), "train", 4, seed=0)
    assert probe.indices.tolist() == [-1] * 4
    assert len(set(probe.identity.tolist())) == 4
    assert probe.batches[0][1].sum() == 2


def test_only_the_batches_that_an_overfitting_run_reads():
    probe = build_probe(DataLoader(DATA, 4), "train", None, seed=0, limit=3)
    assert sorted(probe.indices.tolist()) == list(range(12))


def test_examples_known_from_an_earlier_run():
    probe = build_probe(DataLoader(DATA, 4), "train", 3, seed=0, indices=[50, 2, 7])
    assert probe.indices.tolist() == [50, 2, 7]
    assert values(probe).tolist() == [50, 2, 7]


@pytest.mark.parametrize("kind", [dict, list])
def test_several_loaders_together(kind):
    unlabelled = TensorDataset(torch.arange(30.0)[:, None] + 100)
    parts = {"labelled": DataLoader(DATA, 4), "free": DataLoader(unlabelled, 8)}
    probe = build_probe(parts if kind is dict else list(parts.values()), "train", None, seed=0)
    (batch,) = probe.batches
    labelled, free = batch.values() if kind is dict else batch
    assert len(labelled[0]) == len(free[0]) == len(probe) == 30
    found = probe.to_set(lambda batch: batch, "auto", "auto")
    assert torch.equal(found.labels, labelled[1])
    assert torch.equal(found.inputs, labelled[0])


def test_several_loaders_of_which_one_cannot_be_cut():
    graphs = [torch.full((i % 3 + 1, 2), float(i)) for i in range(12)]
    loader = DataLoader(graphs, 3, collate_fn=lambda items: torch.cat(items))
    probe = build_probe([DataLoader(DATA, 4), loader], "train", 6, seed=0)
    assert probe.sizes == (1,) * 6
    first, second = probe.singles[0]
    assert first[0].shape == (1, 1)
    assert second.ndim == 2
