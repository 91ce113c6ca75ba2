"""The readers of pairs: MultiNLI's files in both spellings, a part held out, a download that may not come."""

import gzip
import importlib
import json
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "mnli"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module("_text_data")


def entry(number: int, label: object = "neutral", *, original: bool = False) -> dict[str, object]:
    """One line of a file, with a sign that some readers take for the end of a line."""
    texts = [f"Premise\u2028{number // 3}.", f"Hypothesis {number}."]
    names = ("sentence1", "sentence2", "gold_label") if original else ("premise", "hypothesis", "label")
    return {**dict(zip(names, [*texts, label], strict=True)), "genre": "travel"}


def write(path: Path, entries: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in entries).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    ("train", "test", "original"),
    [
        ("train.jsonl.gz", "dev_matched.jsonl.gz", False),
        ("train.jsonl", "dev_matched.jsonl", False),
        ("multinli_1.0_train.jsonl", "multinli_1.0_dev_matched.jsonl", True),
        ("multinli_1.0/multinli_1.0_train.jsonl", "multinli_1.0/multinli_1.0_dev_matched.jsonl.gz", True),
    ],
)
def test_a_folder(module: ModuleType, tmp_path: Path, train: str, test: str, original: bool) -> None:
    labels = ["entailment", "neutral", "contradiction", "-" if original else "neutral"]
    write(tmp_path / train, [entry(i, labels[i % 4], original=original) for i in range(40)])
    write(tmp_path / test, [entry(i, "contradiction", original=original) for i in range(100, 110)])
    pairs = module.load_pairs(str(tmp_path))
    expected = [(f"Premise\u2028{i // 3}.", f"Hypothesis {i}.", min(i % 4, 2)) for i in range(40) if i % 4 < 3]
    if not original:
        expected += [(f"Premise\u2028{i // 3}.", f"Hypothesis {i}.", 1) for i in range(3, 40, 4)]
    assert sorted(pairs.train) == sorted(expected)
    assert pairs.train != expected  # shuffled: the file may be sorted
    assert Counter(label for *_, label in pairs.test) == {2: 10}
    assert pairs.train == module.load_pairs(str(tmp_path)).train
    assert pairs.source == f"{tmp_path} ({Path(train).name}, {Path(test).name})"
    assert pairs.limited(7).sizes == (7, 7)
    assert pairs.limited(7).train == pairs.train[:7]
    assert pairs.limited(None) == pairs


def test_of_one_file_whole_premises_are_held_out(module: ModuleType, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [entry(i, i % 3) for i in range(90)])
    pairs = module.load_pairs(str(path))
    assert pairs.sizes == (72, 18)
    assert sorted(pairs.train + pairs.test) == sorted(
        (f"Premise\u2028{i // 3}.", f"Hypothesis {i}.", i % 3) for i in range(90)
    )
    assert {premise for premise, *_ in pairs.train}.isdisjoint(premise for premise, *_ in pairs.test)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pairs.npz", "", "expected text, but pairs.npz holds arrays of numbers: pass a .jsonl file"),
        ("pairs.jsonl", "", "expected labelled pairs in pairs.jsonl, but there are none"),
        ("pairs.jsonl", json.dumps(entry(0, "-")), "expected labelled pairs in pairs.jsonl, but there are none"),
        ("pairs.jsonl", json.dumps(entry(0)), "expected at least two different premises in pairs.jsonl"),
        ("pairs.jsonl", "{}\n", "gold_label in line 1 of pairs.jsonl; it holds none of them"),
        (
            "pairs.jsonl",
            '\n{"premise": "a"}',
            "expected premise, hypothesis, label or sentence1, sentence2, gold_label",
        ),
        ("pairs.jsonl", "[1, 2]", "in line 1 of pairs.jsonl"),
        ("pairs.jsonl", "premise,hypothesis", "expected one JSON object a line, but line 1 of pairs.jsonl is none"),
        ("pairs.jsonl", json.dumps(entry(0, "maybe")), "expected a label of entailment, neutral, contradiction"),
        ("pairs.jsonl", json.dumps(entry(0, 3)), "in line 1 of pairs.jsonl, got 3"),
        ("pairs.jsonl", json.dumps(entry(0, True)), "in line 1 of pairs.jsonl, got True"),
        ("pairs.jsonl", json.dumps(entry(0, [1])), "in line 1 of pairs.jsonl, got [1]"),
        (
            "pairs.jsonl",
            json.dumps({**entry(0), "premise": 1}),
            "expected premise and hypothesis to be texts in line 1",
        ),
        ("pairs.jsonl.gz", "plain\x8b", "line 1 of pairs.jsonl.gz is none"),
    ],
)
def test_what_is_no_file_of_pairs(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        module.load_pairs(name)


def test_damaged_files(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(entry(0)).encode() * 100)[:-20])
    with pytest.raises(ValueError, match="to be UTF-8 text, plain or gzipped, which it is not"):
        module.load_pairs(str(path))
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match="to be UTF-8 text, plain or gzipped, which it is not"):
        module.load_pairs(str(path))


def test_folders_and_paths_without_pairs(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected train.jsonl or multinli_1.0_train.jsonl in .*, plain or .gz"):
        module.load_pairs(str(tmp_path))
    write(tmp_path / "train.jsonl", [entry(0)])
    with pytest.raises(ValueError, match=r"expected dev_matched.jsonl or multinli_1.0_dev_matched.jsonl in"):
        module.load_pairs(str(tmp_path))
    with pytest.raises(
        ValueError, match=r"there is nothing at .*; with --data generated the example makes its own"
    ):
        module.load_pairs(str(tmp_path / "nowhere"))


def test_without_data_the_download_or_generated_pairs(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    pairs = module.load_pairs(None)
    assert pairs.source == "entailment pairs made by the example (the package datasets is not installed)"
    assert pairs.sizes == (6000, 1500)
    assert not {pair[:2] for pair in pairs.train} & {pair[:2] for pair in pairs.test}
    assert pairs.train == module.load_pairs("generated").train

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(module, "give_up_soon", lambda: None)
    rows = {"premise": ["a", "b", "c"], "hypothesis": ["d", "e", "f"], "label": [0, -1, 2]}
    parts = {"train": rows, "validation_matched": rows}
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda name: parts))
    pairs = module.load_pairs(None)
    assert sorted(pairs.train) == sorted(pairs.test) == [("a", "d", 0), ("c", "f", 2)]
    assert pairs.source == "MultiNLI, as datasets has it"

    def refuse(name: str) -> None:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=refuse))
    assert module.load_pairs(None).source.endswith("(datasets could not give MultiNLI: no network)")


def test_a_hub_that_does_not_answer_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    hub = importlib.import_module("_text_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub.give_up_soon()
    assert hub.os.environ["HF_HUB_OFFLINE"] == "0"  # what the user has set stays
    monkeypatch.delenv("HF_HUB_OFFLINE")
    hub.give_up_soon()
    assert hub.os.environ["HF_HUB_OFFLINE"] == "1"
    monkeypatch.setenv("HF_HUB_OFFLINE", "")  # for monkeypatch to take it away again


def test_the_real_pairs(module: ModuleType) -> None:
    """MultiNLI where it lies at hand, else what the example makes itself."""
    there = SHARED.is_dir()
    pairs = module.load_pairs(str(SHARED) if there else "generated")
    assert pairs.sizes == ((12988, 9815) if there else (6000, 1500))
    for part in (pairs.train, pairs.test):
        assert {label for *_, label in part} == {0, 1, 2}
        assert min(Counter(label for *_, label in part[:600]).values()) > 150  # in random order
    assert not set(pairs.train) & set(pairs.test)
