"""Batches of many structures, and hooks that change them on their way."""

import collections
import dataclasses

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, default_collate

from tests.callback.runs import digits
from tests.callback.setups.base import Plain, Run, cross_entropy, setup, small


class Mapped(Dataset):
    """Another dataset's items, each through a function."""

    def __init__(self, dataset, change):
        self.dataset, self.change = dataset, change

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        return self.change(*self.dataset[i])


def mapped(change, module, loss, label, **options):
    train, val = (Mapped(d, change) for d in (digits(24, noise=3), digits(16, 1, noise=3)))
    return Run(module, loss, label=label, train=train, val=val, **options)


class Reads(Plain):
    """Takes image and label from a batch by ``self.read``."""

    def __init__(self, read):
        super().__init__()
        self.read = read

    def training_step(self, batch, batch_idx):
        return cross_entropy(self, self.read(batch))

    def validation_step(self, batch, batch_idx):
        x, y = self.read(batch)
        self.log("val_loss", cross_entropy(self, (x, y)), batch_size=len(y))


def reading(read, **options):
    """The module and the reference that take image and label from a batch in the same way."""
    return Reads(read), lambda module, batch: cross_entropy(module, double(read(batch)))


def double(pair):
    return pair[0].double(), pair[1]


@setup("a dict of image and label")
def dictionary():
    def read(batch):
        return batch["image"], batch["label"]

    return mapped(lambda x, y: {"image": x, "label": y, "name": f"no {int(y)}"}, *reading(read),
                  label=lambda b: int(b["label"]))  # fmt: skip


@setup("tuples of tuples")
def nested():
    def read(batch):
        (x, more), (y, _) = batch
        return x + more[0], y

    return mapped(lambda x, y: ((x, (0.1 * x,)), (y, y * 2)), *reading(read), label=lambda b: int(b[1][0]),
                  stiffness={"label_fn": lambda batch: batch[1][0]})  # fmt: skip


@dataclasses.dataclass
class Pair:
    image: torch.Tensor
    label: torch.Tensor


@setup("a dataclass")
def dataclass():
    def collate(samples):
        return Pair(*default_collate(samples))

    def read(batch):
        return batch.image, batch.label

    module, loss = reading(read)
    return Run(module, loss, label=lambda b: int(b.label), loader={"collate_fn": collate})


Named = collections.namedtuple("Named", ["x", "y"])


@setup("a named tuple")
def named_tuple():
    def read(batch):
        return batch.x, batch.y

    return mapped(lambda x, y: Named(x, y), *reading(read), label=lambda b: int(b.y))


class Opaque:
    """A batch of its own kind, as a collate function may make it."""

    def __init__(self, samples):
        self.pixels, self.targets = default_collate(samples)

    def to(self, device, **_):
        self.pixels, self.targets = self.pixels.to(device), self.targets.to(device)
        return self

    def __len__(self):
        return len(self.targets)


@setup("an object of the collate function's own")
def opaque():
    def read(batch):
        return batch.pixels, batch.targets

    module, loss = reading(read)
    return Run(module, loss, label=lambda b: int(b.targets), loader={"collate_fn": Opaque}, slow=True)


class Graphs:
    """Several graphs as one: nodes in a row, edges shifted, and which graph a node is of."""

    def __init__(self, samples):
        sizes = [len(x) for x, _, _ in samples]
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0).tolist()
        self.x = torch.cat([x for x, _, _ in samples])
        self.edge_index = torch.cat([e + s for (_, e, _), s in zip(samples, starts, strict=True)], dim=1)
        self.y = torch.stack([y for _, _, y in samples])
        self.batch = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(sizes))

    def to(self, device, **_):
        for name, value in vars(self).items():
            setattr(self, name, value.to(device))
        return self

    @property
    def num_graphs(self):
        return len(self.y)


class Molecules(Dataset):
    def __init__(self, n, seed):
        generator = torch.Generator().manual_seed(seed)
        self.items = []
        for i in range(n):
            nodes = 3 + i % 3
            edges = torch.randint(nodes, (2, 2 * nodes), generator=generator)
            self.items.append((torch.randn(nodes, 5, generator=generator) + i % 2, edges, torch.tensor(i % 2)))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


@setup("graphs of several sizes in an object with .to")
def graphs():
    class Message(Plain):
        def __init__(self):
            super().__init__(nn.Linear(6, 2))
            self.own, self.other = nn.Linear(5, 6), nn.Linear(5, 6, bias=False)

        def logits(self, graph):
            x = graph.x.to(self.own.weight.dtype)
            source, target = graph.edge_index
            received = torch.zeros(len(x), 6, dtype=x.dtype, device=x.device).index_add(
                0, target, self.other(x)[source]
            )
            hidden = (self.own(x) + received).relu()
            pooled = torch.zeros(graph.num_graphs, 6, dtype=x.dtype, device=x.device).index_add(
                0, graph.batch, hidden
            )
            return self.net(pooled)

        def training_step(self, graph, batch_idx):
            loss = functional.cross_entropy(self.logits(graph), graph.y)
            self.log("loss", loss, batch_size=graph.num_graphs)
            return loss

        def validation_step(self, graph, batch_idx):
            self.log("val_loss", functional.cross_entropy(self.logits(graph), graph.y), batch_size=graph.num_graphs)

    return Run(
        Message(), lambda m, b: functional.cross_entropy(m.logits(b), b.y), label=lambda b: int(b.y),
        train=Molecules(24, 0), val=Molecules(16, 1), loader={"collate_fn": Graphs}, slow=True,
    )  # fmt: skip


@setup("two inputs")
def two_inputs():
    class Two(Plain):
        def __init__(self):
            super().__init__()
            self.side = nn.Linear(3, 4)

        def logits(self, batch):
            return self.net(batch["image"]) + self.side(batch["table"])

        def training_step(self, batch, batch_idx):
            return functional.cross_entropy(self.logits(batch), batch["y"])

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.training_step(batch, batch_idx))

    return mapped(
        lambda x, y: {"image": x, "table": x[0, 0, :3] * 2, "y": y}, Two(),
        lambda m, b: functional.cross_entropy(m.logits(b), b["y"]), label=lambda b: int(b["y"]),
    )  # fmt: skip


@setup("hooks around the transfer, and transfer_batch_to_device overridden")
def hooks():
    class Hooks(Plain):
        moved = 0

        def on_before_batch_transfer(self, batch, dataloader_idx):
            x, y = batch
            return {"x": x * 2, "y": y}

        def transfer_batch_to_device(self, batch, device, dataloader_idx):
            self.moved += 1
            return {name: value.to(device) for name, value in batch.items()}

        def on_after_batch_transfer(self, batch, dataloader_idx):
            batch["x"] -= 1  # in place
            if self.trainer.training:
                batch["x"] = batch["x"] + 0.1 * torch.randn_like(batch["x"])
            return batch

        def training_step(self, batch, batch_idx):
            self.log("moved", float(self.moved))
            return functional.cross_entropy(self.net(batch["x"]), batch["y"])

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", functional.cross_entropy(self.net(batch["x"]), batch["y"]))

    # at its last measurement a run validates, so nothing random is added
    return Run(Hooks(), lambda m, b: cross_entropy(m, (2 * b[0] - 1, b[1])))


@setup("channels last")
def channels_last():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(300, 4))
    return Run(Plain(net.to(memory_format=torch.channels_last)), cross_entropy)


@setup("a batch changed in place by training_step")
def in_place():
    class InPlace(Plain):
        def training_step(self, batch, batch_idx):
            batch["x"].mul_(2).sub_(0.5)
            y = batch.pop("y")
            return functional.cross_entropy(self.net(**{"input": batch["x"]}), y)

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", functional.cross_entropy(self.net(batch["x"]), batch["y"]))

    return mapped(
        lambda x, y: {"x": x, "y": y}, InPlace(), lambda m, b: cross_entropy(m, (2 * b["x"] - 0.5, b["y"])),
        label=lambda b: int(b["y"]),
    )  # fmt: skip


@setup("an object changed in place by training_step")
def graph_in_place():
    class InPlace(Plain):
        def training_step(self, batch, batch_idx):
            batch.pixels *= 2
            return functional.cross_entropy(self.net(batch.pixels), batch.targets)

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.net(batch.pixels).mean(), batch_size=len(batch))

    return Run(
        InPlace(), lambda m, b: functional.cross_entropy(m.net(2 * b.pixels.double()), b.targets),
        label=lambda b: int(b.targets), loader={"collate_fn": Opaque}, slow=True,
    )  # fmt: skip


@setup("loss per example")
def per_example():
    class PerExample(Plain):
        def training_step(self, batch, batch_idx):
            losses = functional.cross_entropy(self.net(batch[0]), batch[1], reduction="none")
            self.log("worst", losses.max())
            return {"loss": losses.mean(), "losses": losses.detach()}

    return Run(PerExample(small()), cross_entropy)


@setup("lists of images of several sizes")
def lists():
    class Sizes(Dataset):
        """As long as the probe is large: the first axis of an image is not that of the examples."""

        def __init__(self, n, seed):
            self.items = digits(n, seed, noise=3)

        def __len__(self):
            return len(self.items)

        def __getitem__(self, i):
            x, y = self.items[i]
            return x[0, :, : 6 + i % 4], {"kind": y, "box": x[0, :, 0]}

    def logits(module, images):
        return torch.stack([module.net[3](image.mean(1)) for image in images])

    class Lists(Plain):
        def __init__(self):
            super().__init__()
            self.net[3] = nn.Linear(12, 4)

        def training_step(self, batch, batch_idx):
            images, targets = batch
            return functional.cross_entropy(logits(self, images), torch.stack([t["kind"] for t in targets]))

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.training_step(batch, batch_idx), batch_size=len(batch[0]))

    def collate(samples):
        return [x for x, _ in samples], [target for _, target in samples]

    return Run(
        Lists(), lambda m, b: functional.cross_entropy(logits(m, b[0]), b[1][0]["kind"][None]),
        label=lambda b: int(b[1][0]["kind"]), train=Sizes(24, 0), val=Sizes(16, 1), loader={"collate_fn": collate},
        stiffness={"label_fn": lambda batch: torch.stack([target["kind"] for target in batch[1]])}, slow=True,
    )  # fmt: skip


@setup("packed sequences")
def packed():
    def collate(samples):
        lengths = torch.tensor([3 + int(y) for _, y in samples])
        x = torch.stack([x[0] for x, _ in samples])
        sequences = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return sequences, torch.stack([y for _, y in samples])

    class Packed(Plain):
        def __init__(self):
            super().__init__(nn.Linear(5, 4))
            self.rnn = nn.LSTM(12, 5)

        def training_step(self, batch, batch_idx):
            return functional.cross_entropy(self.net(self.rnn(batch[0])[1][0][0]), batch[1])

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.training_step(batch, batch_idx), batch_size=len(batch[1]))

    def loss(module, batch):
        return functional.cross_entropy(module.net(module.rnn(batch[0].double())[1][0][0]), batch[1])

    return Run(Packed(), loss, loader={"collate_fn": collate}, slow=True)
