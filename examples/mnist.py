"""Stiffness of a network while it learns MNIST, as in Fort et al. (arXiv:1901.09491v3).

    python examples/mnist.py                          # the fully connected network, 5 epochs
    python examples/mnist.py --model cnn --lr 3e-3
    python examples/mnist.py --data mnist.npz         # arrays x_train, y_train, x_test, y_test
    python examples/mnist.py --data folder            # MNIST's own IDX files, plain or .gz

Without --data, MNIST is downloaded where torchvision is installed and the network answers; else the
6,000 digits in examples/data are used.
"""

from _classifier import ImageClassifier
from _data import ABOUT_GREY, load_mnist
from _networks import NETWORKS
from _options import example_parser, read_options
from _report import print_data, print_report
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from lightning_stiffness import StiffnessCallback


def main() -> None:
    """Train, measure, and say what was found."""
    parser = example_parser(__doc__, NETWORKS, data=ABOUT_GREY)
    options, data = read_options(parser, lambda options: load_mnist(options.data))
    print_data(data)
    seed_everything(options.seed, verbose=False)
    train, val = data.datasets()

    stiffness = StiffnessCallback(probe_size=options.probe_size, seed=options.seed)
    trainer = Trainer(
        max_epochs=options.max_epochs,
        callbacks=[stiffness],
        logger=TensorBoardLogger(options.log_dir, name=f"mnist-{options.model}"),
        accelerator=options.accelerator,
        devices=1,
    )
    trainer.fit(
        ImageClassifier(options.model, options.lr),
        DataLoader(train, batch_size=32, shuffle=True),
        DataLoader(val, batch_size=250),
    )

    print_report(trainer, stiffness, options)


if __name__ == "__main__":
    main()
