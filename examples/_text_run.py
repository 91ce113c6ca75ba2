"""A run of ``reproduce.py`` on pairs of texts: fine-tune, measure at its moments, as in :mod:`reproduction.train`.

``load_mnli`` stands beside ``reproduction.sources.load``, ``run_text`` beside ``run_images``; with the model
``small`` a run takes seconds and needs no other package.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _text_corpus import LABELS, Triple
from _text_data import GENERATED, Pairs, load_pairs
from _text_pretrained import load_pretrained
from _text_setup import Model, small_model
from _text_tokenizer import PairDataset, pad_batch
from reproduction.plan import Run
from reproduction.record import Plain, record
from reproduction.train import evaluate, losses, stratified, take, training
from torch import Tensor, nn

from lightning_stiffness import measure_stiffness

MAX_LENGTH = 40
"""Tokens of a pair, beyond which its longer text is cut: a BERT on one thread takes two seconds for 32 of them."""
TESTED = 200
"""Pairs of the test part that give the validation loss."""
FIELDS = ("input_ids", "attention_mask", "token_type_ids")


def load_mnli(folder: Path | str | None, at_hand: Path, embedded: str = "embedded") -> tuple[Pairs, str, str]:
    """MultiNLI, its checksum, and what it is in words, without a path.

    Args:
        folder: holds a folder ``mnli`` with the training and the test file; or ``embedded``, for generated pairs;
            None: ``at_hand`` where that holds such a folder, else downloaded if possible, else generated.
        at_hand: the folder to look in first.
        embedded: what stands for the examples' own data.

    Raises:
        ValueError: if a file is missing or not what it should be.
    """
    path = Path(at_hand if folder in (None, embedded) else folder) / "mnli"
    if folder == embedded:
        pairs = load_pairs(GENERATED)
    elif path.is_dir():
        pairs = load_pairs(str(path))
    elif folder is not None:
        raise ValueError(f"expected the folder {folder} to hold a folder mnli, which is missing")
    else:
        pairs = load_pairs(None)
    checksum = zlib.crc32(repr((pairs.train, pairs.test)).encode())
    generated = "made by the example" in pairs.source
    source = pairs.source.split(" (")[0] if generated else "part of MultiNLI"
    train, test = pairs.sizes
    return pairs, f"{checksum:08x}", f"{source}: {train:,} training and {test:,} test pairs"


def run_text(run: Run, pairs: Pairs) -> list[Plain]:
    """Train as the run says; what was measured at each of its moments.

    Adam at a constant rate, batches of 32. Distances are between the mean word embeddings of before training.

    Args:
        run: what to train; ``run.system.model`` is ``bert`` or ``small``.
        pairs: all the data there is.

    Raises:
        ValueError: if the BERT is not installed; the message says how to.
    """
    generator = np.random.default_rng(run.seed)
    chosen = Pairs(
        _drawn(pairs.train, run.system.train or len(pairs.train), generator),
        _drawn(pairs.test, min(TESTED, len(pairs.test)), generator),
        pairs.source,
    )
    torch.manual_seed(run.seed)
    bert = run.system.model == "bert"
    model = load_pretrained(None, MAX_LENGTH) if bert else small_model(chosen, MAX_LENGTH)
    net = Stacked(model.network)
    train, val = (stacked(part, model) for part in (chosen.train, chosen.test))
    probes = [
        take(part, stratified(part[1].numpy(), min(run.system.probe, len(part[1])), generator))
        for part in (train, val)
    ]
    apart = model.input_fn()
    found = []
    for step, epoch in training(net, train, run.system.moments, run.rate):
        result = measure_stiffness(
            net,
            *probes,
            loss_fn=losses,
            inputs=lambda batch: apart(fields(batch[0])),
            class_names=LABELS,
            resamples=100 if run.detailed else 0,
            diagnostics=False,
            step=step,
            epoch=int(epoch),
        )
        net.eval()  # without dropout
        quality = {"train": evaluate(net, train), "val": evaluate(net, val)}
        net.train()
        found.append(record(result, epoch, quality, detailed=run.detailed))
    return found


class Stacked(nn.Module):
    """A network for pairs that takes all their numbers in one tensor, as those of images are.

    Args:
        network: takes ``input_ids``, ``attention_mask`` and, where there are segments, ``token_type_ids``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.train()

    def forward(self, stack: Tensor) -> Tensor:
        """Logits ``[n, 3]`` of ``[n, 2 or 3, T]``."""
        return self.network(**fields(stack))


def stacked(pairs: Sequence[Triple], model: Model) -> tuple[Tensor, Tensor]:
    """The pairs' numbers ``[n, 2 or 3, T]`` and their labels ``[n]``."""
    batch = pad_batch(PairDataset(pairs, model.encode).examples, MAX_LENGTH, model.padding)
    return torch.stack([batch[name] for name in FIELDS if name in batch], dim=1), batch["labels"]


def fields(stack: Tensor) -> dict[str, Tensor]:
    """What :func:`stacked` put together, by name."""
    return dict(zip(FIELDS, stack.unbind(1), strict=False))


def _drawn(pairs: Sequence[Triple], count: int, generator: np.random.Generator) -> list[Triple]:
    """So many pairs drawn by chance, as many of each class as can be."""
    labels = np.array([label for *_, label in pairs])
    return [pairs[i] for i in stratified(labels, count, generator).tolist()]
