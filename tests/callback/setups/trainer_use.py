"""Modules that read their trainer, loggers, optimizers and schedulers in ``training_step``."""

import lightning.pytorch
import torch
from torch.nn import functional

from tests.callback.runs import digits
from tests.callback.setups.base import Plain, Run, cross_entropy, setup


@setup("self.trainer read in training_step")
def reads_trainer():
    class Reads(Plain):
        def training_step(self, batch, batch_idx):
            trainer = self.trainer
            done = self.global_step / trainer.estimated_stepping_batches + trainer.num_training_batches
            assert trainer.training
            assert trainer.state.stage == "train"
            assert len(trainer.train_dataloader.dataset) == 24
            assert len(trainer.val_dataloaders) > 0
            assert trainer.max_epochs == 2
            assert trainer.is_global_zero
            assert trainer.world_size == 1
            assert trainer.strategy.root_device == self.device
            self.log("done", done)
            self.log("rate", self.optimizers().param_groups[0]["lr"])
            self.log("other", trainer.optimizers[0].param_groups[0]["lr"] + float(trainer.current_epoch))
            weight = 1 + torch.tensor(float(self.current_epoch >= 0 and trainer.callback_metrics is not None))
            return weight * cross_entropy(self, batch)

    return Run(Reads(), cross_entropy)


@setup("a loss that asks whether the trainer is training")
def asks_stage():
    class Asks(Plain):
        def training_step(self, batch, batch_idx):
            return self.loss(batch, 1.0 if self.trainer.training and not self.trainer.validating else 0.0)

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.loss(batch, 1.0 if self.trainer.training else 0.0))

        def loss(self, batch, weight):
            logits = self.net(batch[0])
            return functional.cross_entropy(logits, batch[1]) + weight * logits.square().mean()

    return Run(Asks(), lambda module, batch: module.loss(batch, 1.0))


@setup("a loss that changes with the epoch")
def schedule():
    class Anneals(Plain):
        def training_step(self, batch, batch_idx):
            return self.annealed(batch, self.current_epoch / self.trainer.max_epochs)

        def annealed(self, batch, share):
            logits = self.net(batch[0])
            return functional.cross_entropy(logits, batch[1]) + share * logits.square().mean()

    # at its last measurement a run of two epochs is in its second
    return Run(Anneals(), lambda module, batch: module.annealed(batch, 1 / 2))


@setup("self.logger, self.print, lr_schedulers and optimizers in training_step")
def acts():
    class Acts(Plain):
        def training_step(self, batch, batch_idx):
            loss = cross_entropy(self, batch)
            self.logger.log_metrics({"direct": float(loss)}, step=self.global_step)
            self.logger.experiment.log_metrics({"experiment": 1.0}, self.global_step)
            assert str(self.logger.log_dir) in self.logger.save_dir + str(self.logger.log_dir)
            self.log("rate", self.lr_schedulers().get_last_lr()[0])
            self.print(f"loss {float(loss):.3f}")
            if float(loss) < -1:
                self.trainer.should_stop = True
            return loss

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    return Run(Acts(), cross_entropy)


@setup("loss weights from the data module")
def datamodule():
    class Data(lightning.pytorch.LightningDataModule):
        def setup(self, stage):
            self.train, self.val = digits(24, noise=3), digits(16, 1, noise=3)
            self.weights = torch.tensor([1.0, 2.0, 0.5, 1.0])
            self.transferred = 0

        def train_dataloader(self):
            return torch.utils.data.DataLoader(self.train, batch_size=8, shuffle=True)

        def val_dataloader(self):
            return torch.utils.data.DataLoader(self.val, batch_size=8)

        def on_after_batch_transfer(self, batch, dataloader_idx):
            self.transferred += 1
            return 2 * batch[0], batch[1]

    class Weighted(lightning.pytorch.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Plain().net

        def training_step(self, batch, batch_idx):
            data = self.trainer.datamodule
            self.log("transferred", float(data.transferred))
            weights = data.weights.to(self.device)
            return functional.cross_entropy(self.net(batch[0]), batch[1], weight=weights)

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", cross_entropy(self, batch))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    return Run(
        Weighted(),
        lambda module, batch: cross_entropy(module, (2 * batch[0], batch[1])),
        datamodule=Data(),
        package=lightning.pytorch,
    )


@setup("self.trainer.model and lightning_module in training_step")
def reads_model():
    class Reads(Plain):
        def training_step(self, batch, batch_idx):
            assert self.trainer.lightning_module is self or batch_idx < 0
            logits = (self.trainer.model.net(batch[0]) + self.trainer.lightning_module.net(batch[0])) / 2
            return functional.cross_entropy(logits, batch[1])

    return Run(Reads(), cross_entropy)


@setup("training_step that acts on its trainer", refused="training_step uses trainer.save_checkpoint")
def saves():
    class Saves(Plain):
        def training_step(self, batch, batch_idx):
            if self.global_step == 0:
                self.trainer.save_checkpoint("never.ckpt")
            return cross_entropy(self, batch)

    return Run(Saves())


@setup("training_step that fetches its batches", refused="instead of a batch")
def fetches():
    class Fetches(Plain):
        def training_step(self, dataloader_iter):
            batch, _, _ = next(dataloader_iter)
            return cross_entropy(self, batch)

    return Run(Fetches())


@setup("training_step without batch_idx, in a decorator")
def decorated():
    def timed(step):
        def wrapper(*args, **kwargs):
            return step(*args, **kwargs)

        return wrapper

    class Decorated(Plain):
        @timed
        def training_step(self, batch, batch_idx=None):
            return cross_entropy(self, batch)

    return Run(Decorated(), cross_entropy)
