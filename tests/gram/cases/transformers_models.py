"""Models of the ``transformers`` package, built small from their configuration; no weights are loaded."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from .registry import Built, case, normal, randomised, tokens

ROUNDS_IN_FLOAT32 = 1e-6  # its norm computes in float32, whatever the dtype of the weights


def _labels() -> Tensor:
    return torch.randint(3, (7,))


def _class_loss(module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return F.cross_entropy(module(**inputs).logits, batch["labels"], reduction="none")


def _token_loss(module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    logits = module(**{name: value for name, value in batch.items() if name != "targets"}).logits
    return F.cross_entropy(logits.transpose(1, 2), batch["targets"], reduction="none").mean(1)


@case(eager={"attention": "eager"}, sdpa={"attention": "sdpa"}, refuses=("vmap",))
def bert(attention: str) -> Built:
    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=9,
        num_labels=3,
        attn_implementation=attention,
    )
    mask = torch.ones(7, 6, dtype=torch.long)
    mask[:3, 4:] = 0
    batch = {
        "input_ids": tokens(6, 11),
        "attention_mask": mask,
        "token_type_ids": tokens(6, 2),
        "labels": _labels(),
    }
    return randomised(BertForSequenceClassification(config)), batch, _class_loss


@case(eager={"attention": "eager"}, sdpa={"attention": "sdpa"}, refuses=("vmap",))
def gpt2(attention: str) -> Built:
    config = GPT2Config(
        vocab_size=11, n_positions=9, n_embd=8, n_layer=2, n_head=2, use_cache=False, attn_implementation=attention
    )
    ids = tokens(6, 11)
    return randomised(GPT2LMHeadModel(config)), {"input_ids": ids, "targets": ids.roll(-1, 1)}, _token_loss


@case(refuses=("layerwise", "vmap"), scale_free=True, tolerance=ROUNDS_IN_FLOAT32)
def gpt2_own_loss() -> Built:
    """The mean over all tokens that the model itself returns, with padding left out of it."""
    module, batch, _ = gpt2("eager")
    labels = batch["input_ids"].clone()
    labels[:3, 4:] = -100
    return module, {"input_ids": batch["input_ids"], "labels": labels}, lambda module, batch: module(**batch).loss


@case(
    plain={},
    grouped={"num_key_value_heads": 1},
    tied={"tie_word_embeddings": True},
    refuses=("vmap",),
    tolerance=ROUNDS_IN_FLOAT32,
)
def llama(num_key_value_heads: int = 2, **options: Any) -> Built:
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=num_key_value_heads,
        max_position_embeddings=9,
        use_cache=False,
        **options,
    )
    ids = tokens(6, 11)
    return randomised(LlamaForCausalLM(config)), {"input_ids": ids, "targets": ids.roll(-1, 1)}, _token_loss


@case(refuses=("vmap",))
def huggingface_vit() -> Built:
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        image_size=4,
        patch_size=2,
        num_channels=2,
        num_labels=3,
    )
    return (
        randomised(ViTForImageClassification(config)),
        {"pixel_values": normal(2, 4, 4), "labels": _labels()},
        _class_loss,
    )


@case(refuses=("vmap",), tolerance=ROUNDS_IN_FLOAT32)
def t5() -> Built:
    config = T5Config(
        vocab_size=11,
        d_model=8,
        d_kv=4,
        d_ff=12,
        num_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        relative_attention_num_buckets=8,
        decoder_start_token_id=0,
        use_cache=False,
    )
    ids = tokens(4, 11)
    batch = {"input_ids": tokens(5, 11), "decoder_input_ids": ids, "targets": ids.roll(-1, 1)}
    return randomised(T5ForConditionalGeneration(config)), batch, _token_loss
