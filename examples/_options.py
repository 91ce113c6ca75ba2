"""The options that the examples share, checked before anything is trained."""

import argparse
import logging
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

PROBE_SIZE = 500
"""Examples per split to measure on, as in the paper for ten classes."""


class Data(Protocol):
    """What an example trains on: images or anything else that has a training and a test part."""

    @property
    def noun(self) -> str:
        """What its examples are, in the plural: images, pairs."""

    @property
    def source(self) -> str:
        """Where they come from, in words."""

    @property
    def sizes(self) -> tuple[int, int]:
        """How many are for training, and how many for testing."""

    def limited(self: "D", limit: int | None) -> "D":
        """The first ``limit`` of either part; all of them where it is None."""


D = TypeVar("D", bound=Data)


def example_parser(
    description: str | None, models: Iterable[str], *, data: str, probe_size: int | str = PROBE_SIZE
) -> argparse.ArgumentParser:
    """The options that every example has; the example may add its own before :func:`read_options`.

    Args:
        description: for ``--help``: the example's docstring.
        models: the networks to choose from, the default one first.
        data: for ``--help``: what ``--data`` takes.
        probe_size: for ``--help``: on how many examples it measures by default.
    """
    names = list(models)
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",  # an example may put an option of its own in the place of one of these
    )
    parser.add_argument("--max_epochs", type=positive_int, default=5, help="default %(default)s")
    parser.add_argument("--lr", type=positive_float, default=1e-3, help="Adam's learning rate, default %(default)s")
    parser.add_argument("--data", help=data)
    parser.add_argument("--model", choices=names, default=names[0], help=f"default {names[0]}")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument(
        "--probe_size", type=positive_int, help=f"examples of each split to measure on, default up to {probe_size}"
    )
    parser.add_argument("--limit", type=positive_int, help="use at most so many training and so many test examples")
    parser.add_argument(
        "--log_dir", type=Path, default=Path("runs"), help="folder for the logs, default %(default)s"
    )
    parser.add_argument(
        "--accelerator", default="auto", help="Lightning's, such as cpu or gpu; default %(default)s"
    )
    return parser


def read_options(
    parser: argparse.ArgumentParser,
    load: Callable[[argparse.Namespace], D],
    *,
    probe_size: Callable[[argparse.Namespace], int] = lambda options: PROBE_SIZE,
) -> tuple[argparse.Namespace, D]:
    """The command line's options, and the data they name; ends the program with one line where they are wrong.

    Args:
        parser: from :func:`example_parser`.
        load: options → data; raises ValueError where ``options.data`` is not what it should be.
        probe_size: options → examples per split to measure on, up to that many, where ``--probe_size`` does not
            say.

    Returns:
        Options and data. ``options.probe_size`` is a number that the data can fill.
    """
    options = parser.parse_args()
    try:
        data = load(options).limited(options.limit)
        _make_folder(options.log_dir)
    except ValueError as error:
        parser.error(str(error))
    train, test = data.sizes
    smallest = min(train, test)
    if options.probe_size is None:
        options.probe_size = min(probe_size(options), smallest)
    elif not 2 <= options.probe_size <= smallest:
        parser.error(
            f"expected --probe_size from 2 to {smallest}, the number of {data.noun} in the smaller of the training "
            f"part ({train}) and the test part ({test}), got {options.probe_size}"
        )
    _quieten()
    return options, data


def free_folder(parent: Path) -> Path:
    """The first of ``version_0``, ``version_1``, … in ``parent`` that is not there yet, made."""
    number = 0
    while True:
        folder = parent / f"version_{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _quieten() -> None:
    """Leave out Lightning's words that nobody who runs an example can act on."""
    for message in (
        ".*does not have many workers.*",  # these small sets lie in memory: worker processes would slow them down
        ".*smaller than the logging interval.*",  # nothing here is logged per batch
        ".*treespec, LeafSpec.*",  # between Lightning and newer releases of torch
    ):
        warnings.filterwarnings("ignore", message)
    # Whichever of Lightning's packages was imported last gives its logger to both.
    for package in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(f"{package}.utilities.rank_zero")
        logger.addFilter(lambda record: "Tip: " not in record.msg)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"expected --log_dir to be a folder that can be made, got {folder}: {error}") from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"expected --log_dir to be a folder to write to, but {folder} can't be written to")


def positive_int(text: str) -> int:
    """For argparse: a whole number from 1."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return value


def positive_float(text: str) -> float:
    """For argparse: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value
