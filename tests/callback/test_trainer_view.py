"""What a step reads of its trainer is what the run has; what it sets there does not reach the run."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from lightning_stiffness.refusal import UnusableTrainer
from lightning_stiffness.shadow import make_shadow
from tests.callback.runs import Classifier, digits, fc
from tests.callback.setups.trace import plain

READS = """
isinstance(trainer.accelerator, pl.accelerators.CPUAccelerator)
trainer.accumulate_grad_batches
trainer.barebones, trainer.fast_dev_run, trainer.overfit_batches
trainer.callback_metrics["train_loss"]
trainer.check_val_every_n_epoch, trainer.val_check_interval, trainer.val_check_batch
trainer.checkpoint_callback, trainer.early_stopping_callback, len(trainer.callbacks)
trainer.ckpt_path
trainer.current_epoch, trainer.global_step
trainer.datamodule.classes
trainer.default_root_dir
trainer.device_ids, trainer.num_devices, trainer.num_nodes, trainer.world_size
trainer.enable_validation
trainer.estimated_stepping_batches
trainer.fit_loop.epoch_loop.batch_progress.current.ready
trainer.fit_loop.epoch_progress.current.completed
trainer.fit_loop.max_epochs, trainer.fit_loop.epoch_loop.total_batch_idx
trainer.global_rank, trainer.local_rank, trainer.node_rank, trainer.is_global_zero
trainer.gradient_clip_val, trainer.gradient_clip_algorithm
trainer.interrupted, trainer.received_sigterm, trainer.should_stop
trainer.is_last_batch
trainer.limit_train_batches, trainer.limit_val_batches, trainer.log_every_n_steps
trainer.log_dir
trainer.logged_metrics["train_loss"], trainer.progress_bar_metrics
trainer.lr_scheduler_configs[0].interval, trainer.lr_scheduler_configs[0].frequency
trainer.lr_scheduler_configs[0].scheduler.get_last_lr()
trainer.lr_scheduler_configs[0].scheduler.state_dict()
trainer.max_epochs, trainer.max_steps, trainer.min_epochs, trainer.min_steps
trainer.model.net[1].weight, trainer.lightning_module.net[1].weight
trainer.num_training_batches, trainer.num_val_batches, trainer.num_sanity_val_batches
trainer.optimizers[0].defaults["lr"]
trainer.optimizers[0].param_groups[0]["lr"], trainer.optimizers[0].param_groups[0]["betas"]
trainer.optimizers[0].param_groups[0]["params"][0]
trainer.optimizers[0].state_dict()
trainer.precision, trainer.precision_plugin.precision
trainer.precision_plugin.convert_input(torch.ones(2))
trainer.precision_plugin.forward_context().__enter__()
trainer.predicting, trainer.testing, trainer.validating, trainer.evaluating, trainer.sanity_checking
trainer.progress_bar_callback
trainer.state.fn, trainer.state.stage, trainer.state.status
trainer.strategy.all_gather(torch.ones(2))
trainer.strategy.barrier()
trainer.strategy.broadcast({"epoch": 3})
trainer.strategy.is_global_zero, trainer.strategy.global_rank
trainer.strategy.lightning_module.net[1].bias, trainer.strategy.model.net[1].bias
trainer.strategy.lr_scheduler_configs[0].scheduler.get_last_lr()
trainer.strategy.optimizers[0].param_groups[0]["lr"]
trainer.strategy.reduce(torch.ones(2), reduce_op="sum")
trainer.strategy.reduce_boolean_decision(True)
trainer.strategy.root_device
trainer.train_dataloader.batch_size, len(trainer.train_dataloader)
trainer.train_dataloader.dataset[3][1], trainer.train_dataloader.dataset.tensors[1]
trainer.train_dataloader.num_workers, len(trainer.train_dataloader.dataset)
trainer.training
trainer.val_dataloaders.batch_size
isinstance(trainer, pl.Trainer)
isinstance(trainer.logger, CSVLogger), isinstance(trainer.loggers[0], CSVLogger)
isinstance(trainer.optimizers[0], torch.optim.Adam)
isinstance(trainer.strategy, pl.strategies.SingleDeviceStrategy)
isinstance(trainer.train_dataloader, DataLoader)
hasattr(trainer, "nothing"), getattr(trainer, "nothing", 5)
bool(trainer.logger), len(trainer.loggers), len(trainer.optimizers)
module.all_gather(torch.ones(2))
module.automatic_optimization, module.strict_loading, module.example_input_array
module.current_epoch, module.global_step, module.global_rank, module.local_rank
module.device, module.dtype, module.on_gpu
module.hparams
module.logger.log_dir, module.logger.save_dir, module.logger.name, module.logger.version, module.logger.root_dir
module.logger.experiment.log_dir
module.lr_schedulers().base_lrs, module.lr_schedulers().last_epoch, module.lr_schedulers().gamma
module.lr_schedulers().get_last_lr(), module.lr_schedulers().get_lr()
module.lr_schedulers().optimizer.param_groups[0]["lr"]
module.optimizers().param_groups[0]["weight_decay"]
module.optimizers().optimizer.param_groups[0]["lr"]
module.optimizers(use_pl_optimizer=False).param_groups[0]["lr"]
module.optimizers().state[module.net[1].weight]["exp_avg"], module.optimizers().state[module.net[1].bias]["step"]
len(module.optimizers().state), module.net[1].weight in module.optimizers().state
sum(p.square().sum() for group in module.optimizers().param_groups for p in group["params"])
""".strip().splitlines()

QUIET = """
trainer.print("a line")
trainer.profiler.profile("loss").__enter__()
trainer.logger.log_metrics({"a": 1.0}, step=1)
trainer.logger.experiment.log_metrics({"a": 1.0})
trainer.logger.log_hyperparams({"a": 1})
module.log("a", 1.0, sync_dist=True, prog_bar=True)
module.log_dict({"a": 1.0}, sync_dist=True)
module.print("a line")
module.lr_schedulers().step()
module.optimizers().zero_grad()
module.optimizers().param_groups[0].update(lr=9.0)
module.optimizers().defaults.update(lr=9.0)
module.optimizers().state[module.net[1].weight]["exp_avg"].fill_(9.0)
module.optimizers().state_dict()["state"][0]["exp_avg"].fill_(9.0)
module.lr_schedulers().state_dict().clear()
module.lr_schedulers().optimizer.param_groups[0].update(lr=9.0)
module.toggle_optimizer(module.optimizers()) or module.untoggle_optimizer(module.optimizers())
trainer.callback_metrics.clear()
trainer.train_dataloader.dataset.tensors[0].fill_(9.0)
setattr(trainer, "should_stop", True)
setattr(trainer.datamodule, "classes", 9)
setattr(trainer.logger, "_name", "other")
""".strip().splitlines()

REFUSED = """
trainer.save_checkpoint("never.ckpt")
trainer.validate(module)
trainer.optimizers[0].step()
trainer.strategy.teardown()
trainer.strategy.backward(None)
trainer.train_dataloader.dataset.__len__ and trainer.fit_loop.run()
trainer.callbacks[0].on_fit_start(trainer, module)
iter(trainer.train_dataloader)
trainer.train_dataloader()
setattr(trainer.fit_loop, "max_epochs", 9)
setattr(module.optimizers(), "lr", 9)
""".strip().splitlines()


class Data(pl.LightningDataModule):
    classes = 4

    def train_dataloader(self):
        return DataLoader(digits(24), batch_size=8)

    def val_dataloader(self):
        return DataLoader(digits(8, 1), batch_size=8)


class Trained(Classifier):
    def __init__(self, net, width=3):
        super().__init__(net)
        self.save_hyperparameters(ignore="net")

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


def outcome(expression, module):
    scope = {"module": module, "trainer": module.trainer, "torch": torch, "pl": pl, "CSVLogger": CSVLogger}
    try:
        return plain(eval(expression, {**scope, "DataLoader": DataLoader}))
    except Exception as error:
        return error


class Asks(pl.Callback):
    """Asks the module and a copy of it, in the middle of the second epoch."""

    def __init__(self):
        self.found = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch != 1 or batch_idx != 1:
            return
        view = (shadow := make_shadow(pl_module, trainer)).trainer
        view.keep(lambda thing: None)
        for expression in READS:
            view.renew()
            self.found[expression] = outcome(expression, pl_module), outcome(expression, shadow)
        for expression in (*QUIET, *REFUSED):
            view.renew()
            before = self.state(trainer)
            told = outcome(expression, shadow)
            self.found[expression] = told, before, self.state(trainer)
        view.renew()
        self.after = view.optimizers[0].param_groups[0]["lr"], view.should_stop, view.datamodule.classes

    def state(self, trainer):
        optimizer, scheduler = trainer.optimizers[0], trainer.lr_scheduler_configs[0].scheduler
        module, data = trainer.lightning_module, trainer.train_dataloader.dataset
        settings = [optimizer.state_dict(), optimizer.defaults, scheduler.state_dict()]
        told = [
            dict(trainer.callback_metrics),
            trainer.should_stop,
            trainer.datamodule.classes,
            trainer.logger.name,
        ]
        return plain(
            [
                settings,
                told,
                trainer.logger.name,
                data.tensors,
                [(p.grad, p.requires_grad) for p in module.parameters()],
            ]
        )


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    asks = Asks()
    torch.manual_seed(3)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=CSVLogger(tmp_path_factory.mktemp("logs")),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[asks],
    )
    trainer.fit(Trained(fc()), datamodule=Data())
    return asks


@pytest.mark.parametrize("expression", READS, ids=str)
def test_what_a_step_reads_is_what_the_run_has(asked, expression):
    run, view = asked.found[expression]
    assert not isinstance(run, Exception), run
    assert not isinstance(view, Exception), view
    assert view == run


@pytest.mark.parametrize("expression", QUIET, ids=str)
def test_what_a_step_sets_or_logs_does_not_reach_the_run(asked, expression):
    told, before, after = asked.found[expression]
    assert not isinstance(told, Exception), told
    assert after == before


@pytest.mark.parametrize("expression", REFUSED, ids=str)
def test_what_would_act_on_the_run_is_refused_in_words(asked, expression):
    told, before, after = asked.found[expression]
    assert isinstance(told, UnusableTrainer), told
    assert "a measurement of stiffness" in str(told)
    assert after == before


def test_every_loss_meets_the_trainer_as_it_is(asked):
    assert asked.after == (0.005, False, 4)


def test_a_view_is_its_own_copy():
    class Trainer:
        world_size = 1

    module = Classifier(fc())
    view = make_shadow(module, Trainer()).trainer
    assert copy.deepcopy(view) is view
