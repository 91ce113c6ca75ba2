"""The probe: fixed, stratified, and chosen without touching the run."""

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from lightning_stiffness.fields import find_inputs, find_labels
from lightning_stiffness.probe import build_probe, dataset_labels, stratified


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
    labels = probe.batch[1]
    seen = min(40 // 10 + 4, 10)
    assert 2 <= int(labels.sum()) <= seen
    assert torch.equal(probe.batch[0].floor()[:, 0, 0].long(), probe.indices)


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
    by_value = dict(zip(whole.batch[0][:, 0].tolist(), whole.identity.tolist(), strict=True))
    found = dict(zip(part.batch[0][:, 0].tolist(), part.identity.tolist(), strict=True))
    assert found[6.0] == by_value[6.0]
    assert found[5.0] == by_value[5.0]
    assert found[2.0] not in by_value.values()


def test_a_collate_function_of_the_loaders_own():
    def collate(samples):
        return {"pixels": torch.stack([s[0] for s in samples]) * 2, "label": torch.tensor([s[1] for s in samples])}

    data = [(torch.full((2,), float(i)), i % 2) for i in range(10)]
    probe = build_probe(DataLoader(data, collate_fn=collate), "train", 4, seed=0)
    assert probe.singles is None
    assert torch.equal(probe.batch["pixels"][:, 0], probe.indices * 2.0)
    assert find_labels(probe.batch, 4).tolist() == (probe.indices % 2).tolist()
    assert torch.equal(find_inputs(probe.batch, 4), probe.batch["pixels"])


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
