"""New weights of families that scale no attention scores spread as the reference's do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

import formers


@pytest.mark.parametrize("tied", [True, False])
def test_new_weights_spread_as_the_references(tied: bool) -> None:
    sizes: dict[str, Any] = {"d_model": 96, "d_kv": 24, "d_ff": 160, "num_layers": 1, "num_heads": 4, "vocab_size": 211}
    sizes |= {"feed_forward_proj": "gated-gelu", "initializer_factor": 0.5, "tie_word_embeddings": tied}
    torch.manual_seed(0)
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes)).state_dict()
    mine = formers.T5ForConditionalGeneration(formers.T5Config(**sizes))
    for name, parameter in mine.named_parameters():
        wanted = float(theirs[mine.place(name).key].std())
        # The table of relative positions is small, and its spread by chance.
        tolerance = 0.3 if "position_bias" in name else 0.1
        assert float(parameter.detach().std()) == pytest.approx(wanted, rel=tolerance), name
