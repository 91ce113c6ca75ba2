"""What the learning rate does to stiffness: one run for each, side by side (Fort et al., arXiv:1901.09491v3).

    python examples/learning_rates.py                               # MNIST, rates 3e-4, 1e-3 and 3e-3, 5 epochs
    python examples/learning_rates.py --lr 1e-4 1e-3 1e-2 --max_epochs 10
    python examples/learning_rates.py --dataset cifar10 --model cnn

The runs share their seed: the same initial weights and order of batches. All their logs are in one folder, and
TensorBoard shows them in one picture. Data as in mnist.py, fashion_mnist.py and cifar.py.
"""

import argparse

from _cifar import load_cifar
from _classifier import ImageClassifier
from _data import ABOUT_GREY, load_fashion_mnist, load_mnist
from _images import Images
from _networks import COLOUR_NETWORKS, NETWORKS
from _options import example_parser, free_folder, positive_float, read_options
from _rates import rates_figure, rates_table
from _report import print_data, tensorboard_command
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from lightning_stiffness import StiffnessCallback, StiffnessResult

LOADERS = {"mnist": load_mnist, "fashion_mnist": load_fashion_mnist, "cifar10": load_cifar}


def main() -> None:
    """Train at each rate, measure, compare."""
    parser = example_parser(__doc__, {**NETWORKS, **COLOUR_NETWORKS}, data=ABOUT_GREY + "; for CIFAR-10 its own")
    parser.add_argument("--dataset", choices=LOADERS, default="mnist", help="default %(default)s")
    parser.add_argument(
        "--lr", type=positive_float, nargs="+", default=[3e-4, 1e-3, 3e-3], help="Adam's learning rates"
    )
    options, data = read_options(parser, load)
    print_data(data)
    folder = free_folder(options.log_dir / f"learning-rates-{options.dataset}-{options.model}")
    found: dict[float, list[StiffnessResult]] = {}
    for lr in sorted(set(options.lr)):
        print(f"\nLearning rate {lr:g}", flush=True)
        found[lr] = train(options, data, lr, TensorBoardLogger(folder, name="", version=f"lr_{lr:g}"))

    print("\n" + rates_table(found))
    figure = folder / "learning_rates.png"
    rates_figure(found).savefig(figure, dpi=150)
    print(f"\nLogs:    {folder}\nFigures: {figure}")
    print(f"To see it all: {tensorboard_command(folder)}", flush=True)


def load(options: argparse.Namespace) -> Images:
    """The data that the options name, where the network is made for it."""
    fitting = COLOUR_NETWORKS if options.dataset == "cifar10" else NETWORKS
    if options.model not in fitting:
        if options.model != "fc" or "cnn" not in fitting:
            raise ValueError(f"expected --model {' or '.join(fitting)} for {options.dataset}, got {options.model}")
        options.model = "cnn"
    return LOADERS[options.dataset](options.data)


def train(options: argparse.Namespace, data: Images, lr: float, logger: TensorBoardLogger) -> list[StiffnessResult]:
    """One run; what was measured."""
    seed_everything(options.seed, verbose=False)
    train, val = data.datasets()
    channels, side = train[0][0].shape[:2]
    stiffness = StiffnessCallback(probe_size=options.probe_size, class_names=data.class_names, seed=options.seed)
    trainer = Trainer(
        max_epochs=options.max_epochs,
        callbacks=[stiffness],
        logger=logger,
        accelerator=options.accelerator,
        devices=1,
    )
    trainer.fit(
        ImageClassifier(options.model, lr, channels=channels, side=side),
        DataLoader(train, batch_size=32, shuffle=True),
        DataLoader(val, batch_size=250),
    )
    return stiffness.history


if __name__ == "__main__":
    main()
