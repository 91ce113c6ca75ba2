"""A run in two processes whose step says what it trains, started by test_ddp.py: python ddp_step.py FOLDER."""

import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_stiffness import StiffnessCallback
from tests.callback.runs import Classifier, digits, fc, loaders


class Says(Classifier):
    """Half of it is frozen until its first step, which also asks what concerns all processes."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__(net)
        self.net[1].requires_grad_(False)

    def training_step(self, batch, batch_idx):
        trainer = self.trainer
        assert Path(trainer.log_dir) == FOLDER / "logs"  # for which a trainer asks the other processes
        trainer.strategy.barrier()
        self.log("reduced", trainer.strategy.reduce(torch.ones(())), sync_dist=True)
        self.net[1].requires_grad_(True)
        return super().training_step(batch, batch_idx)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(3)
    module = Says(fc())
    callback = StiffnessCallback(probe_size=9, save=False, on_error="raise")
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        # what is frozen when the run begins is no part of the gradients that processes average
        strategy=pl.strategies.DDPStrategy(find_unused_parameters=True),
        logger=CSVLogger(FOLDER, name=None, version="logs"),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(module, **loaders(digits(40), digits(24, 1)))
    callback.history[0].save(FOLDER / f"start{trainer.global_rank}.npz")


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    main()
