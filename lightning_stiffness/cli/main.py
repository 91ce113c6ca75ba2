"""The command line: which command, and what an error ends with."""

import argparse
import os
import sys
from collections.abc import Sequence

import lightning_stiffness
from lightning_stiffness.cli import compare, measure_options, report, show
from lightning_stiffness.cli.problem import PROGRAM, UsageError, note

COMMANDS = {
    "show": (show, "one run in the terminal: verdict, class matrix, lines over training"),
    "compare": (compare, "runs in a table, and how they differ from the first"),
    "report": (report, "runs in one HTML file, as in the TensorBoard tab"),
    "measure": (measure_options, "checkpoints after the fact"),
}
USAGE, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; by default that of the process.

    Returns:
        0; 2 for a command line that has to be put right; 1 where measuring failed; 130 after Ctrl-C; 141 where
        whoever read the output has gone, as for other programs in a pipe.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no "ξ" is no reason to fail
    try:
        options = parser().parse_args(arguments)
        code = options.command(options)
        sys.stdout.flush()
    except UsageError as error:
        note(str(error))
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer would raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return int(code or 0)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    made = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Stiffness of networks: look at what StiffnessCallback saved, compare runs, measure "
        "checkpoints.",
    )
    made.add_argument("--version", action="version", version=f"{PROGRAM} {lightning_stiffness.__version__}")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        module.add_options(commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}."))
    return made
