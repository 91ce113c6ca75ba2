"""Premise and hypothesis pairs for the text example: MultiNLI's files, downloaded, or generated."""

import gzip
import importlib.util
import json
import random
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _text_corpus import LABELS, Triple, generate_pairs
from _text_hub import give_up_soon

GENERATED = "generated"
"""What to pass as ``--data`` for the generated corpus, whatever else is at hand."""
GENERATED_PAIRS = (6000, 1500)
TRAIN_FILES = ("train.jsonl", "multinli_1.0_train.jsonl")
TEST_FILES = ("dev_matched.jsonl", "multinli_1.0_dev_matched.jsonl")
KEYS = (("premise", "hypothesis", "label"), ("sentence1", "sentence2", "gold_label"))
"""Names of the fields: short ones, and those of MultiNLI as it is distributed."""
NO_LABEL = ("-", -1)
"""What stands for a label on which the annotators did not agree."""
HELD_OUT = 5
"""Of a single file, one premise in so many is kept for the test part."""


@dataclass(frozen=True)
class Pairs:
    """(premise, hypothesis, label) triples in random order, in a training and a test part."""

    train: list[Triple]
    test: list[Triple]
    source: str
    """Where they come from, in words."""
    noun = "pairs"

    @property
    def sizes(self) -> tuple[int, int]:
        """How many are for training, and how many for testing."""
        return len(self.train), len(self.test)

    def limited(self, limit: int | None) -> "Pairs":
        """The first ``limit`` training and the first ``limit`` test pairs."""
        return replace(self, train=self.train[:limit], test=self.test[:limit])


def load_pairs(data: str | None) -> Pairs:
    """MultiNLI from ``data``; where that is None, downloaded if possible, else the generated corpus.

    Args:
        data: a folder of MultiNLI's ``.jsonl`` files, one such file, or ``"generated"``; plain or ``.gz``.

    Raises:
        ValueError: if ``data`` is not what it should be; the message says what was expected.
    """
    if data == GENERATED:
        return _generated("asked for")
    if data is not None:
        return read_pairs(Path(data).expanduser())
    try:
        return _download()
    except ImportError:
        return _generated("the package datasets is not installed")
    except Exception as error:  # datasets and what it uses raise many kinds
        return _generated(f"datasets could not give MultiNLI: {' '.join(str(error).split())[:200]}")


def read_pairs(path: Path) -> Pairs:
    """Pairs from a folder with a training and a test file, or from one file, of which a part is held out."""
    if path.is_dir():
        train, test = _find(path, TRAIN_FILES), _find(path, TEST_FILES)
        return Pairs(
            _shuffled(read_jsonl(train)), _shuffled(read_jsonl(test)), f"{path} ({train.name}, {test.name})"
        )
    if not path.is_file():
        raise ValueError(
            f"expected {path} to be a folder of MultiNLI's .jsonl files, or one such file, but there is nothing at "
            f"{path.absolute()}; with --data {GENERATED} the example makes its own pairs"
        )
    if path.suffix == ".npz":
        raise ValueError(
            f"expected text, but {path} holds arrays of numbers: pass a .jsonl file with "
            f"{', '.join(KEYS[0])} in each line, plain or .gz, or a folder of MultiNLI's"
        )
    # A premise comes with several hypotheses: what is held out must not be known by its premise.
    pairs = read_jsonl(path)
    premises = list(dict.fromkeys(premise for premise, _, _ in pairs))
    random.Random(0).shuffle(premises)
    held_out = set(premises[: -(-len(premises) // HELD_OUT)])
    parts = [[pair for pair in pairs if (pair[0] in held_out) is out] for out in (False, True)]
    if not all(parts):
        raise ValueError(
            f"expected at least two different premises in {path}, to hold one out, got {len(premises)}"
        )
    return Pairs(*map(_shuffled, parts), f"{path} (every {HELD_OUT}th premise held out for the test part)")


def read_jsonl(path: Path) -> list[Triple]:
    """Pairs of a file with one JSON object a line, plain or gzipped; pairs without a label are left out."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        lines = content.decode("utf-8").split("\n")  # splitlines would also split at rarer signs within a text
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"expected {path} to be UTF-8 text, plain or gzipped, which it is not: {error}") from error
    pairs = [pair for number, line in enumerate(lines, 1) if line.strip() for pair in _parsed(line, path, number)]
    if not pairs:
        raise ValueError(f"expected labelled pairs in {path}, but there are none in its {len(lines)} lines")
    return pairs


def _parsed(line: str, path: Path, number: int) -> Iterator[Triple]:
    """The line's pair, if it has a label."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"expected one JSON object a line, but line {number} of {path} is none: {error}"
        ) from error
    found = entry if isinstance(entry, dict) else {}
    keys = next((keys for keys in KEYS if all(key in found for key in keys)), None)
    if keys is None:
        raise ValueError(
            f"expected {' or '.join(', '.join(keys) for keys in KEYS)} in line {number} of {path}; it holds "
            f"{', '.join(found) or 'none of them'}"
        )
    premise, hypothesis, label = (found[key] for key in keys)
    if label in NO_LABEL:
        return
    place = label if type(label) is int else LABELS.index(label) if label in LABELS else -1
    if place not in range(len(LABELS)):
        raise ValueError(
            f"expected a label of {', '.join(LABELS)} (or 0, 1, 2; '-' for none) in line {number} of {path}, got "
            f"{label!r}"
        )
    if not (isinstance(premise, str) and isinstance(hypothesis, str)):
        raise ValueError(f"expected {keys[0]} and {keys[1]} to be texts in line {number} of {path}")
    yield premise, hypothesis, place


def _find(folder: Path, names: Iterable[str]) -> Path:
    """The first of these files, plain or ``.gz``, in the folder or in the one that MultiNLI's archive makes."""
    for place in (folder, folder / "multinli_1.0"):
        for name in names:
            for path in (place / name, place / f"{name}.gz"):
                if path.is_file():
                    return path
    raise ValueError(f"expected {' or '.join(names)} in {folder}, plain or .gz, but neither is there")


def _shuffled(pairs: list[Triple]) -> list[Triple]:
    """In random order, always the same: MultiNLI's training part may come sorted by genre."""
    return random.Random(0).sample(pairs, len(pairs))


def _generated(why: str) -> Pairs:
    train, test = GENERATED_PAIRS
    pairs = generate_pairs(train + test)
    return Pairs(pairs[:train], pairs[train:], f"entailment pairs made by the example ({why})")


def _download() -> Pairs:
    if importlib.util.find_spec("datasets") is None:
        raise ImportError("datasets")
    give_up_soon()
    from datasets import load_dataset  # only here: an optional package, and slow to import

    print("Looking for MultiNLI among the downloads of datasets, else downloading it …", flush=True)
    loaded = load_dataset("nyu-mll/multi_nli")
    return Pairs(
        *(_shuffled(list(_rows(loaded[part]))) for part in ("train", "validation_matched")),
        "MultiNLI, as datasets has it",
    )


def _rows(part: Any) -> Iterator[Triple]:
    columns = (part[name] for name in KEYS[0])
    for premise, hypothesis, label in zip(*columns, strict=True):
        if label not in NO_LABEL:
            yield premise, hypothesis, label
