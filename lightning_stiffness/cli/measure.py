"""``lightning-stiffness measure``: checkpoints after the fact."""

import argparse
import contextlib
import re
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_stiffness.cli.finding import load_run, short
from lightning_stiffness.cli.naming import load_bytes, load_name, load_value
from lightning_stiffness.cli.output import console, plain_standing, print_json
from lightning_stiffness.cli.problem import UsageError, note
from lightning_stiffness.cli.show import print_run
from lightning_stiffness.cli.views import chosen_view
from lightning_stiffness.figures.moment import NO_EPOCH, moment
from lightning_stiffness.plugin.discovery import FILE, FOLDER
from lightning_stiffness.report.runs import standing

if TYPE_CHECKING:
    from lightning_stiffness.cli.checkpoints import Checkpoint
    from lightning_stiffness.cli.networks import How
    from lightning_stiffness.settings import Settings

IN_WORDS = (
    "What a message says of StiffnessCallback's arguments holds for options here: loss_fn= is --loss, label_fn= "
    "--labels, input_fn= --inputs (False is none there), probe_size= --probe-size."
)
NAMED = re.compile(r"\b(StiffnessCallback|loss_fn|label_fn|input_fn|probe_size)\b")
"""What a message says where :data:`IN_WORDS` is to be added."""


def measure(options: argparse.Namespace) -> None:
    """Measure every checkpoint on the same examples, save what was found, print the last."""
    out = None if options.json else console()
    # What the user's own code prints is none of the answer.
    with contextlib.redirect_stdout(sys.stderr), _in_words():
        saved, folder = _measure(options)
    run = load_run(str(folder))
    block, measured = chosen_view([run], None, None)
    if out is None:
        at = [standing(run, index, block, measured) for index in range(len(run.results))]
        results = [plain_standing(one, result) for one, result in zip(at, run.results, strict=True)]
        print_json(
            {
                "folder": str(folder),
                "files": list(map(str, saved)),
                "block": block,
                "measure": measured,
                "results": results,
            }
        )
        return
    print_run(out, run, len(run.results) - 1, block, measured)
    out.print()
    out.print(f"Saved: {folder / FOLDER} ({len(saved)} {'file' if len(saved) == 1 else 'files'})", soft_wrap=True)
    out.print(f"In the browser: lightning-stiffness report {folder}", soft_wrap=True)


def _measure(options: argparse.Namespace) -> tuple[list[Path], Path]:
    # Torch and Lightning take seconds to load, which the other commands do without.
    from lightning_stiffness.cli.checkpoints import check_file, numbered, read_checkpoint
    from lightning_stiffness.cli.networks import measure_checkpoints

    files = [check_file(file) for file in options.ckpt]
    folder = _output(options, files[0])
    settings = _settings(options, None)
    how = _how(options, settings)
    checkpoints = numbered([read_checkpoint(file, trust=options.trust) for file in options.ckpt], options.steps)
    how = _with_data(options, how, checkpoints[-1])
    saved, began = [], time.perf_counter()
    for checkpoint, result in zip(checkpoints, measure_checkpoints(checkpoints, how), strict=True):
        took = time.perf_counter() - began
        if checkpoint.epoch is None:
            result.notes.append(NO_EPOCH)
        note(f"{checkpoint.path.name}: {moment(result)} ({took:.1f} s)")
        saved.append(result.save(folder / FOLDER / f"step_{result.step:08d}.npz"))
        began = time.perf_counter()
    return saved, folder


def _output(options: argparse.Namespace, first: Path) -> Path:
    """Where results go: beside the run, and never among its own results."""
    beside = first.absolute().parent
    usual = beside / "measured"
    if beside.name == "checkpoints":  # as Lightning lays them out; its own names begin with "version_"
        usual = beside.parent.with_name(f"measured_{beside.parent.name}")
    folder = Path(options.output).expanduser() if options.output else Path(short(usual))
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"expected --output to be a folder, got the file {folder}")
    held = [file for file in (folder / FOLDER).glob("*") if FILE.fullmatch(file.name)]
    if held and not options.add:
        raise UsageError(
            f"{folder} holds {len(held)} {'result' if len(held) == 1 else 'results'} already: name another folder "
            "with --output, or put the new ones beside them (and in place of those of the same step) with --add"
        )
    return folder


def _settings(options: argparse.Namespace, class_names: Sequence[str] | None) -> "Settings":
    from lightning_stiffness.settings import Settings

    groups = options.superclasses and load_value("--superclasses", options.superclasses, list, "a list of groups")
    named = options.superclass_names and load_value(
        "--superclass-names", options.superclass_names, list, "a list of names"
    )
    names = (
        load_value("--class-names", options.class_names, list, "a list of names")
        if options.class_names
        else class_names
    )
    try:
        return Settings(
            measures=options.measures,
            distance=options.distance,
            distance_layer=options.distance_layer,
            bins=options.bins,
            superclasses=groups or None,
            superclass_names=named or None,
            class_names=None if names is None else [str(name) for name in names],
            parameters=options.parameters,
            engine=options.engine,
            memory_budget=load_bytes("--memory-budget", options.memory_budget) if options.memory_budget else None,
            resamples=options.resamples,
            diagnostics=options.diagnostics,
            per_layer=_layers(options.per_layer),
        )
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def _layers(given: list[str] | None) -> bool | list[str]:
    """Names of layers; True for all of them, where the option has no names."""
    return False if given is None else given or True


def _how(options: argparse.Namespace, settings: "Settings") -> "How":
    import inspect

    import torch

    from lightning_stiffness import arguments
    from lightning_stiffness.cli.networks import How, check_hparams, is_lightning, no_loss
    from lightning_stiffness.probeset import AUTO, checked_field
    from lightning_stiffness.settings import one_of

    splits = one_of("--splits", options.splits, ("train", "val"))
    make = load_name("--module", options.module)
    if not callable(make) or isinstance(make, torch.nn.Module):
        raise UsageError(
            f"expected --module to be a class or a function that makes a module, got {type(make).__name__}"
        )
    loss_fn = load_name("--loss", options.loss) if options.loss else None
    if loss_fn is None and inspect.isclass(make) and not is_lightning(make):
        raise no_loss(make.__name__)

    hparams = load_value("--hparams", options.hparams, dict, "a mapping") if options.hparams else {}
    check_hparams(make, hparams)

    def field(option: str, argument: str, name: str | None) -> Any:
        if name is None or name == "none":
            return AUTO if name is None else None
        return checked_field(argument, load_name(option, name))

    return How(
        make=make,
        hparams=hparams,
        loss_fn=None if loss_fn is None else arguments.loss(loss_fn),
        label_fn=field("--labels", "label_fn", options.labels),
        input_fn=field("--inputs", "input_fn", options.inputs),
        settings=settings,
        device=_device(options.device),
        splits=[split for split in ("train", "val") if split in splits],
        probe_size=arguments.probe_size(options.probe_size),
        seed=arguments.seed(options.seed),
        trust=options.trust,
    )


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"expected --device to be a device of this machine, such as cpu, got {name}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return device


def _with_data(options: argparse.Namespace, how: "How", last: "Checkpoint") -> "How":
    """The same, with the examples to measure on."""
    from dataclasses import replace

    from lightning_stiffness.cli.datasets import load_data, of_module
    from lightning_stiffness.cli.networks import is_lightning, make_network

    if options.data:
        arguments = load_value("--data-args", options.data_args, dict, "a mapping") if options.data_args else {}
        saved = last.content.get("datamodule_hyper_parameters", {}) if isinstance(last.content, dict) else {}
        data = load_data(options.data, arguments, saved)
    else:
        module = make_network(last, how)
        if not is_lightning(module):
            raise UsageError("expected --data, as only a LightningModule can have loaders of its own")
        data = of_module(module)
    settings = how.settings if data.class_names is None else _settings(options, data.class_names)
    return replace(how, settings=settings, data=data)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Errors that say what the user has to settle are told without the way they took through the package."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not _to_settle(error) and not (isinstance(error, ValueError) and _ours(frames[-1].filename)):
            raise
        if error.__cause__ is not None and not _ours(
            traceback.extract_tb(error.__cause__.__traceback__)[-1].filename
        ):
            traceback.print_exception(error.__cause__)
        raise UsageError(f"{error}\n{IN_WORDS}" if NAMED.search(str(error)) else str(error)) from error


def _to_settle(error: Exception) -> bool:
    from lightning_stiffness.compat import misconfigurations
    from lightning_stiffness.refusal import REFUSALS

    return isinstance(error, (*REFUSALS, *misconfigurations()))


def _ours(file: str) -> bool:
    return Path(file).is_relative_to(Path(__file__).parents[1])
