"""The word tokenizer, batches of pairs, and the small transformer's treatment of padding."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXTS = ["The dog isn't here.", "The cat is here!", "the dog"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("_text_tokenizer")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("That isn't it, he said.", ["that", "isn't", "it", ",", "he", "said", "."]),
        ("Fleur d’Épée: 1,000 a_b", ["fleur", "d'épée", ":", "1", ",", "000", "a", "_", "b"]),
        ("  ", []),
        ("uh-huh... 'quoted'", ["uh", "-", "huh", ".", ".", ".", "'", "quoted", "'"]),
    ],
)
def test_words(module: ModuleType, text: str, words: list[str]) -> None:
    assert module.words_of(text) == words


def test_numbers_of_a_pair(module: ModuleType) -> None:
    encode = module.WordTokenizer(TEXTS, max_length=20)
    assert list(encode.vocabulary) == ["[PAD]", "[UNK]", "[SEP]", "the", "dog", "here"]  # those that occur twice
    assert len(encode) == 6
    assert encode("The DOG", "a dog") == {
        "input_ids": [3, 4, 2, 1, 4, 2],
        "token_type_ids": [0, 0, 0, 1, 1, 1],
    }
    assert encode("[PAD]", "") == {"input_ids": [1, 1, 1, 2, 2], "token_type_ids": [0, 0, 0, 0, 1]}


def test_the_longer_text_is_cut(module: ModuleType) -> None:
    encode = module.WordTokenizer(["a b c d e f g h"], max_length=8, least=1)
    ids = encode("a b c d e f", "g h")["input_ids"]
    named = {number: word for word, number in encode.vocabulary.items()}
    assert [named[i] for i in ids] == ["a", "b", "c", "d", "[SEP]", "g", "h", "[SEP]"]
    for premise, hypothesis in (("a b c d e f g h", "a b c d e f g h"), ("a", "a b c d e f g h")):
        pair = encode(premise, hypothesis)
        assert len(pair["input_ids"]) == len(pair["token_type_ids"]) == 8
        assert pair["input_ids"].count(module.SEPARATOR) == 2


def test_batches(module: ModuleType) -> None:
    encode = module.WordTokenizer(TEXTS, max_length=20)
    data = module.PairDataset([("the dog", "the", 2), ("here", "", 0)], encode)
    assert (len(data), data.longest) == (2, 5)
    batch = module.pad_batch([data[0], data[1]], 6, padding=9)
    assert batch["input_ids"].tolist() == [[3, 4, 2, 3, 2, 9], [5, 2, 2, 9, 9, 9]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [2, 0]
    assert "token_type_ids" not in module.pad_batch([{"input_ids": [3], "labels": 0}], 2)


def test_padding_changes_neither_logits_nor_distances(module: ModuleType) -> None:
    networks = importlib.import_module("_text_networks")
    encode = module.WordTokenizer(TEXTS, max_length=20)
    data = module.PairDataset([("the dog", "the cat", 2), ("here", "the dog is here", 0)], encode)
    torch.manual_seed(0)
    small = networks.SmallTransformer(len(encode), 20, width=16, heads=2).double().eval()
    net = networks.PairClassifier(small, 1e-3)
    apart = networks.MeanEmbedding(small.words)
    short, long = (module.pad_batch(data.examples, length) for length in (data.longest, 20))
    assert torch.allclose(net(short), net(long), atol=1e-12)
    assert not torch.allclose(net(short)[0], net(short)[1], atol=1e-3)
    assert torch.allclose(apart(short), apart(long), atol=1e-12)
    assert apart(short).shape == (2, 32)
    # "the dog [SEP]" / "the [UNK] [SEP]", a word at a time
    words = [small.words.weight[i] for i in (3, 4, 2)], [small.words.weight[i] for i in (3, 1, 2)]
    expected = torch.cat([torch.stack(part).mean(0) for part in words])
    assert torch.allclose(apart(short)[0], expected)
    unsegmented = {name: value for name, value in short.items() if name != "token_type_ids"}
    assert torch.allclose(apart(unsegmented)[0], torch.stack([*words[0], *words[1]]).mean(0))


def test_the_distance_stays_while_the_embedding_learns(module: ModuleType) -> None:
    networks = importlib.import_module("_text_networks")
    words = torch.nn.Embedding(4, 3)
    batch = module.pad_batch([{"input_ids": [1, 2], "token_type_ids": [0, 1], "labels": 0}], 2)
    apart = networks.MeanEmbedding(words)
    before = apart(batch)
    with torch.no_grad():
        words.weight += 1
    assert torch.equal(apart(batch), before)
