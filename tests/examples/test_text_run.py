"""The reproduction's run on pairs of texts: its data, and what it puts down."""

import importlib
import json
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("_text_run")


def test_a_run_of_the_small_transformer(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = importlib.import_module("reproduction.plan")
    monkeypatch.setattr(module, "TESTED", 60)
    pairs, checksum, words = module.load_mnli("embedded", Path("nowhere"))
    assert words == "entailment pairs made by the example: 6,000 training and 1,500 test pairs"
    assert checksum == module.load_mnli("embedded", Path("elsewhere"))[1]
    system = plan.System("text", "Text", "mnli", "small", 90, (0, 0.5, 2), 24, 1, (1e-3,), kind="text")
    found = module.run_text(plan.Run(system, 1e-3, 0), pairs)
    assert [(moment["step"], moment["epoch"]) for moment in found] == [(0, 0.0), (2, 0.5), (6, 2.0)]
    for moment in found:
        assert moment["engine"] == "layerwise"
        assert 0 < moment["loss"]["val"] < 3
        assert 0 <= moment["accuracy"]["train"] <= 1
        for block in ("train-train", "train-val", "val-val"):
            for measure in ("cos", "sign"):
                assert all(-1 <= value <= 1 for value in moment["summary"][block][measure].values())
        assert sum(moment["curve"]["cos"]["count"]) > 24
    assert found[0]["loss"]["train"] > found[-1]["loss"]["train"]
    again = module.run_text(plan.Run(system, 1e-3, 0), pairs)
    assert again[-1]["summary"] == found[-1]["summary"]
    assert module.run_text(plan.Run(system, 1e-3, 1), pairs)[-1]["summary"] != found[-1]["summary"]
    assert math.isclose(json.loads(json.dumps(found))[0]["loss"]["val"], found[0]["loss"]["val"])


def test_where_the_pairs_come_from(module: ModuleType, tmp_path: Path) -> None:
    lines = [{"premise": f"p{i}", "hypothesis": "h", "label": i % 3} for i in range(6)]
    (tmp_path / "mnli").mkdir()
    for name in ("train.jsonl", "dev_matched.jsonl"):
        (tmp_path / "mnli" / name).write_text("\n".join(map(json.dumps, lines)), "utf-8")
    asked, at_hand = module.load_mnli(tmp_path, Path("nowhere")), module.load_mnli(None, tmp_path)
    assert asked == at_hand
    assert asked[2] == "part of MultiNLI: 6 training and 6 test pairs"
    with pytest.raises(ValueError, match=r"expected the folder .*mnli to hold a folder mnli, which is missing"):
        module.load_mnli(tmp_path / "mnli", tmp_path)


def test_all_numbers_of_a_pair_in_one_tensor(module: ModuleType) -> None:
    small = importlib.import_module("_text_setup").small_model
    pairs = importlib.import_module("_text_data").Pairs([("a b", "b a", 1), ("b", "a", 0)], [], "made up")
    model = small(pairs, module.MAX_LENGTH)
    stack, labels = module.stacked(pairs.train, model)
    assert labels.tolist() == [1, 0]
    named = module.fields(stack)
    assert set(named) == {"input_ids", "attention_mask", "token_type_ids"}
    assert named["attention_mask"].sum(1).tolist() == [6, 4]
    net = module.Stacked(model.network).eval()
    assert torch.equal(net(stack), model.network(**named))
