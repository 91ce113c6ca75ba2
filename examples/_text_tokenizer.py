"""Texts as numbers: a tokenizer of whole words, and batches of pairs padded to a length."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from _text_corpus import Triple
from torch import Tensor
from torch.utils.data import Dataset

PADDING, UNKNOWN, SEPARATOR = range(3)
SPECIAL = ("[PAD]", "[UNK]", "[SEP]")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]|_")

Encoded = dict[str, Any]
"""Of one pair: the lists ``input_ids`` and, where the network has segments, ``token_type_ids``; its ``labels``."""
Encode = Callable[[str, str], Encoded]


def words_of(text: str) -> list[str]:
    """Words, in small letters, with their apostrophes; every other sign on its own.

    Example:
        >>> words_of("That isn't it, he said.")
        ['that', "isn't", 'it', ',', 'he', 'said', '.']
    """
    return _WORD.findall(text.lower().replace("’", "'"))


class WordTokenizer:
    """Numbers for the words of some texts, the most frequent first; any other word is unknown.

    A pair becomes ``premise [SEP] hypothesis [SEP]``; ``token_type_ids`` are 0 in its first part, 1 in its second.

    Args:
        texts: what to learn the words from: training texts only, or the test part would not be unseen.
        max_length: tokens of a pair; the longer of its texts loses its end.
        least: how often a word must occur to be known. Rarer ones teach the network what an unknown word is.
    """

    def __init__(self, texts: Iterable[str], max_length: int, least: int = 2) -> None:
        counts = Counter(word for text in texts for word in words_of(text))
        known = [word for word, count in counts.most_common() if count >= least]
        self.vocabulary = {word: number for number, word in enumerate((*SPECIAL, *known))}
        self.max_length = max_length

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __call__(self, premise: str, hypothesis: str) -> Encoded:
        """The pair's numbers, without padding."""
        first, second = (
            [self.vocabulary.get(word, UNKNOWN) for word in words_of(text)] for text in (premise, hypothesis)
        )
        while len(first) + len(second) > self.max_length - 2:
            (first if len(first) > len(second) else second).pop()
        return {
            "input_ids": [*first, SEPARATOR, *second, SEPARATOR],
            "token_type_ids": [0] * (len(first) + 1) + [1] * (len(second) + 1),
        }


class PairDataset(Dataset[Encoded]):
    """Encoded pairs, each with its label."""

    def __init__(self, pairs: Sequence[Triple], encode: Encode) -> None:
        self.examples = [{**encode(premise, hypothesis), "labels": label} for premise, hypothesis, label in pairs]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Encoded:
        return self.examples[index]

    @property
    def longest(self) -> int:
        """Tokens of the longest pair."""
        return max(len(example["input_ids"]) for example in self.examples)


def pad_batch(examples: Sequence[Encoded], length: int, padding: int = PADDING) -> dict[str, Tensor]:
    """Tensors ``[n, length]``, shorter examples filled up with ``padding``, and ``labels`` ``[n]``.

    ``attention_mask`` is 1 at tokens and 0 at padding.
    """

    def filled(rows: Iterable[list[int]], value: int) -> Tensor:
        return torch.tensor([row + [value] * (length - len(row)) for row in rows])

    batch = {"input_ids": filled((example["input_ids"] for example in examples), padding)}
    if "token_type_ids" in examples[0]:
        batch["token_type_ids"] = filled((example["token_type_ids"] for example in examples), 0)
    batch["attention_mask"] = filled(([1] * len(example["input_ids"]) for example in examples), 0)
    batch["labels"] = torch.tensor([example["labels"] for example in examples])
    return batch
