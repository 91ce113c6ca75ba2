"""Stiffness of a network while it learns CIFAR-10 or CIFAR-100, as in Fort et al. (arXiv:1901.09491v3).

    python examples/cifar.py                                  # CIFAR-10, three convolutions, 5 epochs
    python examples/cifar.py --classes 100                    # with its 20 super-classes, and living or not
    python examples/cifar.py --model resnet20                 # ResNet-20 without batch normalisation
    python examples/cifar.py --data cifar10.npz               # arrays x_train, y_train, x_test, y_test
    python examples/cifar.py --data cifar-10-python.tar.gz    # its own Python batches, packed or unpacked

Without --data, CIFAR is downloaded where torchvision is installed and the network answers; else coloured shapes
and patterns are drawn in its place, with as many classes, and groups of them for a hundred.
"""

from _cifar import ABOUT_COLOUR, KINDS, load_cifar
from _classifier import ImageClassifier
from _networks import COLOUR_NETWORKS
from _options import example_parser, read_options
from _report import print_data, print_report
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from lightning_stiffness import StiffnessCallback


def main() -> None:
    """Train, measure, and say what was found."""
    parser = example_parser(__doc__, COLOUR_NETWORKS, data=ABOUT_COLOUR, probe_size="500, or 1000 for 100 classes")
    parser.add_argument("--classes", type=int, choices=KINDS, default=10, help="default %(default)s")
    options, data = read_options(
        parser,
        lambda options: load_cifar(options.data, options.classes),
        probe_size=lambda options: {10: 500, 100: 1000}[options.classes],
    )
    print_data(data)
    seed_everything(options.seed, verbose=False)
    train, val = data.datasets()

    stiffness = StiffnessCallback(
        probe_size=options.probe_size,
        class_names=data.class_names,
        superclasses=data.superclasses or None,
        superclass_names=data.superclass_names or None,
        seed=options.seed,
    )
    trainer = Trainer(
        max_epochs=options.max_epochs,
        callbacks=[stiffness],
        logger=TensorBoardLogger(options.log_dir, name=f"cifar{options.classes}-{options.model}"),
        accelerator=options.accelerator,
        devices=1,
    )
    trainer.fit(
        ImageClassifier(options.model, options.lr, options.classes, channels=3, side=32),
        DataLoader(train, batch_size=32, shuffle=True),
        DataLoader(val, batch_size=250),
    )

    print_report(trainer, stiffness, options)


if __name__ == "__main__":
    main()
