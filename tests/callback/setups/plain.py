"""Modules that log, hold metrics, and return what they compute in one way or another."""

from torch.nn import functional
from torchmetrics import MeanMetric, MeanSquaredError, MetricCollection, R2Score
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from tests.callback.setups.base import Plain, Run, cross_entropy, setup


@setup("training_step returns a tensor")
def tensor():
    return Run(Plain(), cross_entropy, stiffness={"at_start": True})


@setup("self.log and self.log_dict in training_step")
def logs():
    class Logs(Plain):
        def training_step(self, batch, batch_idx):
            loss = cross_entropy(self, batch)
            self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True, sync_dist=True)
            self.log_dict({"twice": 2 * loss, "index": float(batch_idx)}, on_step=False, on_epoch=True)
            return loss

    return Run(Logs(), cross_entropy)


@setup("a dict with further entries")
def dictionary():
    class Returns(Plain):
        def training_step(self, batch, batch_idx):
            logits = self.net(batch[0])
            loss = functional.cross_entropy(logits, batch[1])
            return {"loss": loss, "logits": logits.detach(), "note": "kept"}

    return Run(Returns(), cross_entropy)


@setup("torchmetrics updated and logged as objects")
def metrics():
    class Metrics(Plain):
        def __init__(self):
            super().__init__()
            self.accuracy = MulticlassAccuracy(4)
            self.mean_loss = MeanMetric()
            self.scores = MetricCollection([MulticlassAccuracy(4, average="micro"), MulticlassF1Score(4)])

        def training_step(self, batch, batch_idx):
            logits = self.net(batch[0])
            loss = functional.cross_entropy(logits, batch[1])
            self.accuracy(logits, batch[1])
            self.mean_loss.update(loss.detach())
            self.log("accuracy", self.accuracy, on_step=True, on_epoch=True)
            self.log("mean_loss", self.mean_loss)
            self.log_dict(self.scores(logits, batch[1]))
            return loss

    return Run(Metrics(), cross_entropy, stiffness={"at_start": True})


@setup("a metric computed and reset at the epoch's end")
def metric_by_hand():
    class Metrics(Plain):
        def __init__(self):
            super().__init__()
            self.accuracy = MulticlassAccuracy(4)

        def training_step(self, batch, batch_idx):
            logits = self.net(batch[0])
            self.accuracy.update(logits, batch[1])
            return functional.cross_entropy(logits, batch[1])

        def on_train_epoch_end(self):
            self.log("accuracy", self.accuracy.compute())
            self.accuracy.reset()

    return Run(Metrics(), cross_entropy, stiffness={"at_start": True})


@setup("a metric as the loss")
def metric_loss():
    class Squared(Plain):
        def __init__(self):
            super().__init__()
            self.error = MeanSquaredError()

        def training_step(self, batch, batch_idx):
            loss = self.error(self.net(batch[0]), functional.one_hot(batch[1], 4).float())
            self.log("error", self.error, on_epoch=True)
            return loss

    def loss(module, batch):
        return (module.net(batch[0]) - functional.one_hot(batch[1], 4)).square().mean()

    return Run(Squared(), loss)


@setup("a metric as a weight of the loss")
def metric_weight():
    class Weighted(Plain):
        def __init__(self):
            super().__init__()
            self.accuracy = MulticlassAccuracy(4, average="micro")

        def training_step(self, batch, batch_idx):
            logits = self.net(batch[0])
            share = self.accuracy(logits, batch[1])
            return functional.cross_entropy(logits, batch[1]) + (2 - share) * logits.square().mean()

    def loss(module, batch):
        logits = module.net(batch[0])
        share = (logits.argmax(1) == batch[1]).double().mean()
        return functional.cross_entropy(logits, batch[1]) + (2 - share) * logits.square().mean()

    return Run(Weighted(), loss, slow=True)


@setup("a metric that refuses a single example")
def metric_of_several():
    class Explained(Plain):
        def __init__(self):
            super().__init__()
            self.explained = R2Score()

        def training_step(self, batch, batch_idx):
            logits = self.net(batch[0])
            self.log("explained", self.explained(logits[:, 0], batch[1].float()))
            return functional.cross_entropy(logits, batch[1])

    return Run(Explained(), cross_entropy)


@setup("outputs gathered in a list for the epoch's end")
def gathered():
    class Gathers(Plain):
        def __init__(self):
            super().__init__()
            self.outputs = []
            self.seen = {"examples": 0}

        def training_step(self, batch, batch_idx):
            loss = cross_entropy(self, batch)
            self.outputs.append(loss.detach())
            self.seen["examples"] += len(batch[1])
            return loss

        def on_train_epoch_end(self):
            self.log("mean", sum(self.outputs) / len(self.outputs))
            self.log("examples", float(self.seen["examples"]))
            self.outputs.clear()

    return Run(Gathers(), cross_entropy)


@setup("None for some batches, by batch_idx")
def none_by_index():
    class Skips(Plain):
        def training_step(self, batch, batch_idx):
            return None if batch_idx % 2 == 0 else cross_entropy(self, batch)

    return Run(Skips(), cross_entropy)


@setup("None where no example of the batch counts")
def none_by_content():
    class Skips(Plain):
        def training_step(self, batch, batch_idx):
            counts = batch[1] != 2
            if not counts.any():
                return None
            return functional.cross_entropy(self.net(batch[0][counts]), batch[1][counts])

    return Run(Skips(), lambda module, batch: cross_entropy(module, batch) * float(int(batch[1]) != 2), slow=True)


@setup("training_step that always returns None", refused="training_step to return a loss tensor")
def none_always():
    class Skips(Plain):
        def training_step(self, batch, batch_idx):
            return None

    return Run(Skips())
