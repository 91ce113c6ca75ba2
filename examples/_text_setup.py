"""A network for pairs with all that it needs around it: its tokenizer, its batches, what to take distances of."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from _text_corpus import Triple
from _text_data import Pairs
from _text_networks import MeanEmbedding, SmallTransformer
from _text_tokenizer import PADDING, Encode, PairDataset, WordTokenizer, pad_batch
from torch import nn
from torch.utils.data import DataLoader


@dataclass(frozen=True)
class Model:
    """A network, and how texts become its input."""

    network: nn.Module
    encode: Encode
    words: nn.Module
    """The embedding of its tokens."""
    padding: int = PADDING
    """The token that fills up a batch."""
    memory_budget: int | None = None
    """Bytes for the gradients of a measurement."""

    def input_fn(self) -> MeanEmbedding:
        """What the distance of two pairs is taken of, fixed before the training."""
        return MeanEmbedding(self.words)

    def loaders(self, train: Sequence[Triple], test: Sequence[Triple]) -> tuple[DataLoader, DataLoader]:
        """Batches of 32 pairs to train on, in random order, and of 250 to test on; all of the same length."""
        parts = [PairDataset(pairs, self.encode) for pairs in (train, test)]
        collate = partial(pad_batch, length=max(part.longest for part in parts), padding=self.padding)
        return (
            DataLoader(parts[0], batch_size=32, shuffle=True, collate_fn=collate),
            DataLoader(parts[1], batch_size=250, collate_fn=collate),
        )


def small_model(data: Pairs, max_length: int) -> Model:
    """The small transformer, untrained, for the words of the training part."""
    tokenizer = WordTokenizer((text for *texts, _ in data.train for text in texts), max_length)
    network = SmallTransformer(len(tokenizer), max_length)
    return Model(network, tokenizer, network.words)
