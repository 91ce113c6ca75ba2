"""A run in several processes, started by test_ddp.py: python ddp_run.py FOLDER DEVICES."""

import json
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_stiffness import StiffnessCallback
from tests.callback.runs import Classifier, cnn, digits, loaders

KEY = "stiffness/train-val/cos/within_class"


class Unlucky(Classifier):
    """Its second measurement fails on one process only, as when that one is out of memory."""

    def training_step(self, batch, batch_idx):
        if type(self.trainer).__name__ == "TrainerView":
            unlucky = self.trainer.global_rank == 1 and self.trainer.current_epoch == 1
            if unlucky and "--unlucky" in sys.argv:
                raise RuntimeError("out of memory on process 1")
        return super().training_step(batch, batch_idx)


def main() -> None:
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    torch.manual_seed(3)
    module = Unlucky(cnn())
    callback = StiffnessCallback(probe_size=18)
    monitors = [
        EarlyStopping(KEY, mode="max", patience=1, min_delta=10.0, check_finite=False),
        ModelCheckpoint(folder / "checkpoints", monitor=KEY),
    ]
    trainer = pl.Trainer(
        max_epochs=5,
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        callbacks=[callback, *monitors],
        logger=CSVLogger(folder, name=None, version=""),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    pl.seed_everything(1, verbose=False)
    trainer.fit(module, **loaders(digits(40), digits(24, 1)))
    rank = trainer.global_rank
    for i, result in enumerate(callback.history):
        result.save(folder / f"rank{rank}_{i}.npz")
    told = {
        "epochs": trainer.current_epoch,
        "monitored": float(trainer.callback_metrics[KEY]),
        "failures": callback.failures,
        "probe": {split: indices.tolist() for split, indices in callback.history[-1].probe_indices.items()},
    }
    (folder / f"rank{rank}.json").write_text(json.dumps(told))
    if rank == 0:
        torch.save(module.net.state_dict(), folder / "weights.pt")


if __name__ == "__main__":
    main()
