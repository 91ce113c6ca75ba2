"""Text, in batches that are mappings: embeddings, recurrent nets, transformers, language models."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from tests.callback.setups.base import Plain, Run, setup

VOCABULARY, LENGTH = 11, 7


class Sentences(Dataset):
    """Ids of several lengths, padded with 0 by a tokenizer's like; the class is in the ids."""

    def __init__(self, n, seed):
        generator = torch.Generator().manual_seed(seed)
        self.items = []
        for i in range(n):
            ids = torch.randint(1, VOCABULARY, (LENGTH,), generator=generator)
            ids[:2] = 1 + i % 4
            length = 3 + i % (LENGTH - 2)
            mask = (torch.arange(LENGTH) < length).long()
            self.items.append({"input_ids": ids * mask, "attention_mask": mask, "labels": torch.tensor(i % 4)})

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def sentences(module, loss, **options):
    return Run(
        module,
        loss,
        label=lambda batch: int(batch["labels"]),
        train=Sentences(24, 0),
        val=Sentences(16, 1),
        **options,
    )


class Text(Plain):
    """Loss from ``self.logits``."""

    def training_step(self, batch, batch_idx):
        return functional.cross_entropy(self.logits(batch), batch["labels"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))


def of_logits(module, batch):
    return functional.cross_entropy(module.logits(batch), batch["labels"])


@setup("bag of embeddings")
def bag():
    class Bag(Text):
        def __init__(self):
            super().__init__(nn.Linear(5, 4))
            self.embedding = nn.EmbeddingBag(VOCABULARY, 5, mode="mean", padding_idx=0)

        def logits(self, batch):
            return self.net(self.embedding(batch["input_ids"]))

    return sentences(Bag(), of_logits)


@setup("sparse embedding gradients")
def sparse():
    class Sparse(Text):
        def __init__(self):
            super().__init__(nn.Linear(5, 4))
            self.embedding = nn.Embedding(VOCABULARY, 5, sparse=True)

        def logits(self, batch):
            return self.net(self.embedding(batch["input_ids"]).mean(1))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return sentences(Sparse(), of_logits)


def recurrent(kind):
    class Recurrent(Text):
        def __init__(self):
            super().__init__(nn.Linear(6, 4))
            self.embedding, self.rnn = nn.Embedding(VOCABULARY, 5, padding_idx=0), kind(5, 6, batch_first=True)

        def logits(self, batch):
            return self.net(self.rnn(self.embedding(batch["input_ids"]))[0][:, -1])

    return sentences(Recurrent(), of_logits, slow=True)


@setup("LSTM")
def lstm():
    return recurrent(nn.LSTM)


@setup("GRU")
def gru():
    return recurrent(nn.GRU)


class Transformer(Text):
    """Two layers with padding masked out."""

    def __init__(self, outputs=4):
        super().__init__(nn.Linear(8, outputs))
        self.embedding = nn.Embedding(VOCABULARY, 8, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(1, LENGTH, 8) / 3)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def hidden(self, batch):
        x = self.embedding(batch["input_ids"]) + self.positions
        return self.body(x, src_key_padding_mask=batch["attention_mask"] == 0)

    def logits(self, batch):
        mask = batch["attention_mask"][..., None]
        return self.net((self.hidden(batch) * mask).sum(1) / mask.sum(1))


@setup("transformer on a padded batch")
def transformer():
    return sentences(Transformer(), of_logits)


def next_tokens(module, batch):
    return module.net(module.hidden(batch))[:, :-1], batch["input_ids"][:, 1:]


@setup("token-weighted mean over a padded batch")
def language_model():
    class Language(Transformer):
        def __init__(self):
            super().__init__(VOCABULARY)

        def training_step(self, batch, batch_idx):
            logits, targets = next_tokens(self, batch)
            weights = (targets != 0).float()
            losses = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
            return (losses * weights).sum() / weights.sum()

    def loss(module, batch):
        logits, targets = next_tokens(module, batch)
        kept = targets[0] != 0
        return functional.cross_entropy(logits[0][kept], targets[0][kept])

    return sentences(Language(), loss)


def no_transformers():
    try:
        import transformers  # noqa: F401
    except ModuleNotFoundError:
        return "transformers is not installed"
    return None


@setup("a BatchEncoding into a transformers model", needs=no_transformers)
def hugging_face():
    import transformers

    class Wrapped(Plain):
        def __init__(self):
            config = transformers.BertConfig(
                vocab_size=VOCABULARY, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                intermediate_size=16, max_position_embeddings=LENGTH, num_labels=4,
            )  # fmt: skip
            super().__init__(transformers.BertForSequenceClassification(config))

        def training_step(self, batch, batch_idx):
            assert isinstance(batch, transformers.BatchEncoding)
            return self.net(**batch).loss

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.training_step(batch, batch_idx))

    def collate(samples):
        return transformers.BatchEncoding(torch.utils.data.default_collate(samples))

    def loss(module, batch):
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        return functional.cross_entropy(module.net(**inputs).logits, batch["labels"])

    return sentences(Wrapped(), loss, loader={"collate_fn": collate})
