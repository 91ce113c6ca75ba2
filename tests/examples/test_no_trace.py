"""The examples' networks end with the same weights, to the bit, with and without the callback."""

import sys
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer, seed_everything
from torch.utils.data import DataLoader, TensorDataset

from lightning_stiffness import StiffnessCallback

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from _classifier import ImageClassifier
from _data import load_mnist
from _networks import NETWORKS


@pytest.mark.parametrize("model", NETWORKS)
def test_final_weights(model: str, tmp_path: Path) -> None:
    train, val = (TensorDataset(*dataset[:320]) for dataset in load_mnist("embedded").datasets())
    found = []
    for callbacks in ([StiffnessCallback(probe_size=40)], []):
        seed_everything(3, verbose=False)
        trainer = Trainer(
            max_epochs=2,
            callbacks=callbacks,
            accelerator="cpu",
            default_root_dir=tmp_path,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = ImageClassifier(model)
        trainer.fit(module, DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=100))
        found.append(module.state_dict())
    with_callback, without = found
    assert with_callback.keys() == without.keys()
    for name, value in without.items():
        assert torch.equal(with_callback[name], value), name
