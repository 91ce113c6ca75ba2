"""The options that the examples share, checked before anything is trained."""

import argparse
import logging
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from _data import EMBEDDED, Images

PROBE_SIZE = 500
"""Examples per split to measure on, as in the paper for ten classes."""


def read_options(
    description: str | None, models: Iterable[str], load: Callable[[str | None], Images]
) -> tuple[argparse.Namespace, Images]:
    """The command line's options, and the data they name.

    Args:
        description: for ``--help``: the example's docstring.
        models: the networks to choose from, the default one first.
        load: ``--data`` → images; raises ValueError where it is not what it should be.

    Returns:
        Options and images. ``options.probe_size`` is a number that the data can fill.
    """
    names = list(models)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max_epochs", type=_positive_int, default=5, help="default %(default)s")
    parser.add_argument(
        "--lr", type=_positive_float, default=1e-3, help="Adam's learning rate, default %(default)s"
    )
    parser.add_argument(
        "--data", help=f".npz file or folder of IDX files, or '{EMBEDDED}' for the example's own digits"
    )
    parser.add_argument("--model", choices=names, default=names[0], help=f"default {names[0]}")
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument(
        "--probe_size", type=_positive_int, help=f"examples of each split to measure on, default up to {PROBE_SIZE}"
    )
    parser.add_argument("--limit", type=_positive_int, help="use at most so many training and so many test images")
    parser.add_argument(
        "--log_dir", type=Path, default=Path("runs"), help="folder for the logs, default %(default)s"
    )
    parser.add_argument(
        "--accelerator", default="auto", help="Lightning's, such as cpu or gpu; default %(default)s"
    )
    options = parser.parse_args()
    try:
        data = load(options.data).limited(options.limit)
        _make_folder(options.log_dir)
    except ValueError as error:
        parser.error(str(error))
    smallest = min(len(data.x_train), len(data.x_test))
    if options.probe_size is None:
        options.probe_size = min(PROBE_SIZE, smallest)
    elif not 2 <= options.probe_size <= smallest:
        parser.error(
            f"expected --probe_size from 2 to {smallest}, the number of images in the smaller of the training part "
            f"({len(data.x_train)}) and the test part ({len(data.x_test)}), got {options.probe_size}"
        )
    _quieten()
    return options, data


def _quieten() -> None:
    """Leave out Lightning's words that nobody who runs an example can act on."""
    for message in (
        ".*does not have many workers.*",  # these small sets lie in memory: worker processes would slow them down
        ".*smaller than the logging interval.*",  # nothing here is logged per batch
        ".*treespec, LeafSpec.*",  # between Lightning and newer releases of torch
    ):
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda record: "Tip: " not in record.msg)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"expected --log_dir to be a folder that can be made, got {folder}: {error}") from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"expected --log_dir to be a folder to write to, but {folder} can't be written to")


def _positive_int(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return value


def _positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value
