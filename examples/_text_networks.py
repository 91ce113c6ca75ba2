"""Transformers that tell whether a premise entails a hypothesis: a small one from scratch, and pretrained ones."""

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

CLASSES = 3
Batch = dict[str, Tensor]
"""``input_ids``, ``attention_mask`` and, where there are segments, ``token_type_ids`` [n, T]; ``labels`` [n]."""


class SmallTransformer(nn.Module):
    """Words, positions and segments embedded → encoder layers → mean over the words → linear layer.

    Args:
        vocabulary: how many words there are.
        max_length: the longest pair, in tokens.
        width: of the embeddings; the feed-forward layers have four times as many units.
        heads: of the attention.
        layers: how many layers the encoder has.
    """

    def __init__(self, vocabulary: int, max_length: int, width: int = 128, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(max_length, width)
        self.segments = nn.Embedding(2, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits ``[n, 3]`` of token ids ``[n, T]``."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        embedded = self.words(input_ids) + self.positions(places) + self.segments(token_type_ids)
        encoded = self.encoder(embedded, src_key_padding_mask=attention_mask == 0)
        mask = attention_mask.unsqueeze(-1)  # [n, T, 1]
        return self.head((encoded * mask).sum(1) / mask.sum(1))


class PretrainedClassifier(nn.Module):
    """A pretrained transformer of the Hugging Face library with a new classification head.

    Args:
        name: its folder, or its name on the hub.
    """

    def __init__(self, name: str) -> None:
        from transformers import (
            AutoModelForSequenceClassification,
        )  # only here: an optional package, slow to import

        super().__init__()
        # The library gives it in evaluation mode, in which Lightning would leave it.
        self.transformer = AutoModelForSequenceClassification.from_pretrained(name, num_labels=CLASSES).train()

    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits ``[n, 3]`` of token ids ``[n, T]``."""
        return self.transformer(**inputs).logits


class PairClassifier(LightningModule):
    """A network for pairs, trained with Adam at a constant learning rate, as in the paper."""

    def __init__(self, network: nn.Module, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="network")
        self.network = network
        self.train_accuracy = MulticlassAccuracy(CLASSES, average="micro")
        self.val_accuracy = MulticlassAccuracy(CLASSES, average="micro")

    def forward(self, batch: Batch) -> Tensor:
        """Logits ``[n, 3]``."""
        return self.network(**{name: value for name, value in batch.items() if name != "labels"})

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Mean cross-entropy of the batch."""
        logits = self(batch)
        loss = cross_entropy(logits, batch["labels"])
        self.train_accuracy(logits, batch["labels"])
        self.log("loss/train", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(logits))
        self.log("accuracy/train", self.train_accuracy, on_step=False, on_epoch=True, batch_size=len(logits))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log loss and accuracy on pairs that are not trained on."""
        logits = self(batch)
        loss = cross_entropy(logits, batch["labels"])
        self.val_accuracy(logits, batch["labels"])
        self.log("loss/val", loss, prog_bar=True, batch_size=len(logits))
        self.log("accuracy/val", self.val_accuracy, prog_bar=True, batch_size=len(logits))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at a constant learning rate."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


class MeanEmbedding:
    """A fixed point of each pair to take distances of: the mean embedding of its words before training.

    Token ids have no distance. Their embeddings have one; those from before training are kept, so that the
    distance between two pairs stays what it is while the network learns, as that between two images does.

    Args:
        embedding: the network's word embedding, of width d.
    """

    def __init__(self, embedding: nn.Module) -> None:
        self.weight = embedding.weight.detach().cpu().clone()

    def __call__(self, batch: Batch) -> Tensor:
        """Premise's and hypothesis's mean ``[n, 2 d]``; of both together ``[n, d]`` where there are no segments."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        segments = [mask]
        if "token_type_ids" in batch:
            segments = [mask * (batch["token_type_ids"] == segment) for segment in (0, 1)]
        vectors = self.weight.to(ids.device)[ids]  # [n, T, d]
        means = [(vectors * s.unsqueeze(-1)).sum(1) / s.sum(1, keepdim=True).clamp_min(1) for s in segments]
        return torch.cat(means, dim=1)
