"""What ``lightning-stiffness measure`` takes."""

import argparse

from lightning_stiffness.cli.measure import measure

EXAMPLE = """\
example:
  lightning-stiffness measure --module train:Net --data train:Digits --ckpt lightning_logs/version_0/checkpoints/*
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Module, checkpoints and data; how to measure; where results go."""
    parser.epilog = EXAMPLE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    needed = parser.add_argument_group("what to measure")
    needed.add_argument(
        "--module", required=True, metavar="NAME",
        help="pkg.mod:Net, a LightningModule, or an nn.Module or function that makes one (with --loss)",
    )  # fmt: skip
    needed.add_argument(
        "--ckpt", required=True, nargs="+", metavar="FILE", help="checkpoints; several make a history by their step"
    )
    needed.add_argument(
        "--data", metavar="NAME",
        help="pkg.mod:Data, a LightningDataModule; a function that returns datasets or loaders (train, val); an "
        ".npz file with x_train, y_train, x_val or x_test, y_…; by default the module's own loaders",
    )  # fmt: skip
    needed.add_argument("--hparams", metavar="YAML", help="arguments of the module, those in the checkpoint aside")
    needed.add_argument("--data-args", metavar="YAML", help="arguments of the data module or function")
    needed.add_argument(
        "--loss", metavar="NAME", help="loss_fn(module, batch); by default as with StiffnessCallback"
    )
    needed.add_argument("--steps", type=int, nargs="+", metavar="N", help="batches trained on at each checkpoint")
    needed.add_argument("--trust", action="store_true", help="also run code that is in the checkpoints")

    how = parser.add_argument_group("how to measure (as with StiffnessCallback)")
    how.add_argument("--probe-size", type=int, metavar="N", help="examples of each split; 500, or all there are")
    how.add_argument(
        "--splits", nargs="+", choices=("train", "val"), default=("train", "val"), help="both by default"
    )
    how.add_argument(
        "--measures", nargs="+", default=("cos", "sign"), metavar="MEASURE", help="cos and sign by default"
    )
    how.add_argument("--labels", metavar="NAME", help="function from a batch to classes; none: without classes")
    how.add_argument("--inputs", metavar="NAME", help="function from a batch to inputs; none: without distances")
    how.add_argument("--class-names", metavar="YAML", help="names of the classes")
    how.add_argument("--superclasses", metavar="YAML", help="group of each class, or several such lists")
    how.add_argument("--superclass-names", metavar="YAML", help="names of the groups")
    how.add_argument("--distance", default="cosine", help="cosine (default) or euclidean")
    how.add_argument("--distance-layer", metavar="LAYER", help="distances between the outputs of this submodule")
    how.add_argument("--bins", type=int, default=20, metavar="N", help="bins of the distance curve; 20")
    how.add_argument(
        "--parameters", nargs="+", metavar="PATTERN", help="parameters to differentiate; all trainable ones"
    )
    how.add_argument("--per-layer", nargs="*", metavar="LAYER", help="each layer's matrix too; of all, or of these")
    how.add_argument("--engine", default="auto", help="how gradients are computed")
    how.add_argument("--memory-budget", metavar="BYTES", help="for the gradients held at a time, such as 2GB")
    how.add_argument("--resamples", type=int, default=200, metavar="N", help="behind the intervals; 0: none")
    how.add_argument(
        "--no-diagnostics", dest="diagnostics", action="store_false", help="leave out coherence and the like"
    )
    how.add_argument("--seed", type=int, default=0, metavar="N", help="decides which examples")
    how.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, …; by default a GPU where there is one")

    where = parser.add_argument_group("where results go")
    where.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="their log directory; by default `measured_…` beside that of the checkpoints",
    )
    where.add_argument("--add", action="store_true", help="put them beside results that are there already")
    where.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.set_defaults(command=measure)
