"""Every registered encoder–decoder's files and heads: those of the reference, in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import formers
from formers.registry import FAMILIES
from tests.parity.pairs import SEQ2SEQ
from tests.parity.pairs_seq2seq import CASES, close, draw, gradients, new_pair, padded, pair, writer

OTHER = [(model_type, head) for model_type in SEQ2SEQ for head in FAMILIES[model_type].heads]


@pytest.mark.parametrize("case", CASES)
def test_files(case: str, tmp_path: Path) -> None:
    """What we write is what the reference writes, and the reference reads it."""
    models = pair(case)
    models.ours.save_pretrained(tmp_path)
    own = load_file(tmp_path / "model.safetensors")
    assert own.keys() == models.state.keys()
    assert all(torch.equal(own[name], models.state[name]) for name in own)
    loaded, info = type(models.reference).from_pretrained(
        tmp_path, output_loading_info=True, local_files_only=True, attn_implementation="eager"
    )
    assert {name: found for name, found in info.items() if found} == {}
    inputs = {"input_ids": draw(2, 7), "decoder_input_ids": draw(2, 5, seed=2)}
    with torch.no_grad():
        close(models.ours(**inputs).logits, loaded(**inputs).logits)
    assert type(formers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)) is type(models.ours)
    config = formers.AutoConfig.from_pretrained(tmp_path)
    assert config.to_dict() == type(config)(**config.to_dict()).to_dict()


@pytest.mark.parametrize("case", CASES)
def test_whole_state_dicts_in_torch_files(case: str, tmp_path: Path) -> None:
    """Older files hold tied tensors under each of their names."""
    models = pair(case)
    torch.save(models.reference.state_dict(), tmp_path / "pytorch_model.bin")
    models.ours.config.save_pretrained(tmp_path)
    loaded, info = type(models.ours).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    inputs = {"input_ids": draw(2, 7), "decoder_input_ids": draw(2, 5, seed=2)}
    with torch.no_grad():
        close(loaded(**inputs).logits, models.reference(**inputs).logits)


@pytest.mark.parametrize("model_type", [name for name in SEQ2SEQ if "5" in name])
def test_logits_with_weights_of_their_own(model_type: str, tmp_path: Path) -> None:
    """T5 1.1 and its kin: the file decides whether logits share the embeddings, as in the reference."""
    models = new_pair(model_type)
    state = {**models.reference.state_dict()}
    state["lm_head.weight"] = torch.randn(61, 24, generator=torch.Generator().manual_seed(5))
    kept = {k: v.clone() for k, v in state.items() if not k.endswith("embed_tokens.weight")}
    models.reference.save_pretrained(tmp_path / "reference")
    save_file(kept, tmp_path / "reference" / "model.safetensors", {"format": "pt"})
    loaded = formers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "reference")
    assert loaded.get_output_embeddings().weight is not loaded.get_input_embeddings().weight
    loaded.save_pretrained(tmp_path / "ours")
    inputs = {"input_ids": draw(2, 7), "decoder_input_ids": draw(2, 5, seed=2)}
    with torch.no_grad():
        expected = (
            type(models.reference).from_pretrained(tmp_path / "reference", local_files_only=True)(**inputs).logits
        )
        close(loaded(**inputs).logits, expected)
        close(type(loaded).from_pretrained(tmp_path / "ours")(**inputs).logits, expected)
        again = type(models.reference).from_pretrained(tmp_path / "ours", local_files_only=True)
        close(again(**inputs).logits, expected)


@pytest.mark.parametrize(("model_type", "head"), OTHER)
def test_every_head(model_type: str, head: str, tmp_path: Path) -> None:
    models = pair(model_type, head)
    ids, mask = padded(models, "right")
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    trained: dict[str, Tensor] = {}
    if head == "Model":
        inputs["decoder_input_ids"] = draw(4, 6, seed=2)
    elif head == "ForCausalLM":
        trained = {"labels": ids.masked_fill(mask == 0, -100)}
    elif head == "ForTokenClassification":
        trained = {"labels": (ids % 3).masked_fill(mask == 0, -100)}
    elif head == "ForSequenceClassification":
        trained = {"labels": torch.tensor([0, 2, 1, 1])}
    elif head == "ForQuestionAnswering":
        trained = {"start_positions": torch.tensor([1, 2, 0, 3]), "end_positions": torch.tensor([5, 3, 0, 12])}
    elif head == writer(model_type):
        trained = {"labels": draw(4, 6, seed=2)}
    if head == "ForCausalLM":
        states = torch.randn(4, 5, 24, generator=torch.Generator().manual_seed(1))
        seen = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
        inputs |= {"encoder_hidden_states": states, "encoder_attention_mask": seen, "use_cache": False}
    own, other = models.ours(**inputs, **trained), models.reference(**inputs, **trained)
    for name in other:
        if isinstance(other[name], Tensor):
            mine, theirs = own[name], other[name]
            if mine.shape[:2] == mask.shape:
                mine, theirs = mine[mask == 1], theirs[mask == 1]
            close(mine, theirs, msg=lambda text, name=name: f"{name}: {text}")
    if trained:
        own.loss.backward()
        other.loss.backward()
        close(gradients(models.ours), gradients(models.reference))
    models.ours.save_pretrained(tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    assert written.keys() == models.state.keys()
    assert all(torch.equal(written[name], models.state[name]) for name in written)
    info = type(models.reference).from_pretrained(tmp_path, output_loading_info=True, local_files_only=True)[1]
    assert {name: found for name, found in info.items() if found} == {}


@pytest.mark.parametrize("model_type", SEQ2SEQ)
def test_auto_classes_pick_the_same_class(model_type: str) -> None:
    config = getattr(transformers, FAMILIES[model_type].prefix + "Config")
    for auto in ("AutoModel", "AutoModelForSeq2SeqLM", "AutoModelForCausalLM"):
        expected = getattr(transformers, auto)._model_mapping.get(config, None)
        if expected is not None:
            assert getattr(formers, auto)._class_for(model_type).__name__ == expected.__name__


@pytest.mark.parametrize("case", ["t5", "bart", "marian-two-vocabularies"])
def test_larger_vocabularies(case: str, tmp_path: Path) -> None:
    if case.endswith("vocabularies"):
        case = "marian"
    model = new_pair(case).ours
    before = model(draw(2, 7), labels=draw(2, 5, seed=2)).logits
    model.resize_token_embeddings(70)
    after = model(draw(2, 7), labels=draw(2, 5, seed=2)).logits
    assert after.shape[-1] == 70
    close(after[..., :61], before)
    model.save_pretrained(tmp_path)
    close(type(model).from_pretrained(tmp_path)(draw(2, 7), labels=draw(2, 5, seed=2)).logits, after)
