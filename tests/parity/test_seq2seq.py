"""Every registered encoder–decoder: outputs, caches, gradients and training equal the reference's."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import formers
from formers.errors import ConfigError, InputError
from formers.layers.attention import eager
from formers.layers.dropout import dropout
from tests.parity.pairs_seq2seq import CASES, close, draw, gradients, new_pair, padded, pair
from tests.parity.tiny_seq2seq import TINY_SEQ2SEQ

# Their decoders' positions count all tokens in the reference, padding too: a row's answer depends on others' lengths.
COUNTING = [case for case in CASES if "t5" not in case]


def same_states(own: Any, other: Any, source: Tensor | None = None) -> None:
    """Hidden states and attention maps, at the source's tokens where a mask says which."""
    for name in ("decoder_hidden_states", "decoder_attentions", "cross_attentions"):
        for mine, theirs in zip(own[name], other[name], strict=True):
            close(mine, theirs)
    for name in ("encoder_hidden_states", "encoder_attentions"):
        for mine, theirs in zip(own[name], other[name], strict=True):
            if source is not None:
                where = (
                    (mine if mine.dim() == 3 else mine.transpose(1, 2)),
                    (theirs if theirs.dim() == 3 else theirs.transpose(1, 2)),
                )
                mine, theirs = (each[source == 1] for each in where)
            close(mine, theirs)


@pytest.mark.parametrize("side", ["right", "left", None])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_outputs(case: str, side: str | None) -> None:
    models = pair(case)
    ids, mask = padded(models, side)
    asked = {"decoder_input_ids": draw(4, 6, seed=2), "output_hidden_states": True, "output_attentions": True}
    own, other = models.ours(ids, mask, **asked), models.reference(ids, attention_mask=mask, **asked)
    assert list(own.keys()) == list(other.keys())
    close(own.logits, other.logits)
    same_states(own, other, mask)
    close(own.encoder_last_hidden_state[mask == 1], other.encoder_last_hidden_state[mask == 1])
    plain = {"decoder_input_ids": asked["decoder_input_ids"]}
    close(models.ours(ids, mask, **plain).logits, other.logits)
    close(models.ours(ids, mask, **plain, logits_to_keep=1).logits[:, 0], other.logits[:, -1])
    # What an encoder made earlier, as an output, a tuple, or the reference's output.
    made = models.ours.get_encoder()(ids, mask)
    for given in (made, made.to_tuple(), models.reference.get_encoder()(ids, attention_mask=mask)):
        close(models.ours(encoder_outputs=given, attention_mask=mask, **plain).logits, other.logits)
    embedded = models.ours.get_input_embeddings()(ids)
    theirs = models.reference(inputs_embeds=embedded, attention_mask=mask, **plain).logits
    close(models.ours(inputs_embeds=embedded, attention_mask=mask, **plain).logits, theirs)
    assert type(models.ours(ids, mask, **plain, return_dict=False)) is tuple


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_attention_functions(case: str) -> None:
    models, calls = pair(case), []

    def mine(*parts: Tensor, **options: Any) -> Any:
        calls.append(parts[0].shape)
        return eager(*parts, **options)

    ids, mask = padded(models, "right")
    new = {"decoder_input_ids": draw(4, 6, seed=2)}
    expected = models.reference(ids, attention_mask=mask, **new).logits
    try:
        for choice in ("eager", mine):
            models.ours.set_attn_implementation(choice)
            close(models.ours(ids, mask, **new).logits, expected)
    finally:
        models.ours.set_attn_implementation("sdpa")
    spec = models.ours.spec
    assert len(calls) >= 2 * spec.layers + spec.encoder.layers


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_step_by_step_is_at_once(case: str, prepared: bool) -> None:
    models = new_pair(case) if prepared else pair(case)
    model = models.ours.for_inference() if prepared else models.ours
    ids, mask = padded(models, "right")
    new = draw(4, 9, seed=2)
    expected = models.reference(ids, attention_mask=mask, decoder_input_ids=new).logits
    held = model.new_cache(4)
    found = [model(ids, mask, decoder_input_ids=new[:, :3], past_key_values=held, use_cache=True).logits]
    read: list[int] = []
    hook = model.get_encoder().register_forward_pre_hook(lambda *_: read.append(1))
    keys = [
        layer.cross.attention.k_proj.register_forward_pre_hook(lambda *_: read.append(2))
        for layer in model.get_decoder().layers
    ]
    for low, high in ((3, 4), (4, 5), (5, 7), (7, 8), (8, 9)):
        found.append(model(decoder_input_ids=new[:, low:high], past_key_values=held, use_cache=True).logits)
    for each in (hook, *keys):
        each.remove()
    assert not read, "the source was read again"
    close(torch.cat(found, dim=1), expected)
    held.crop(5)
    close(model(decoder_input_ids=new[:, 5:], past_key_values=held).logits, expected[:, 5:])
    held.crop(-4)
    assert held.get_seq_length() == 5


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_rows_of_one_source_share_it(case: str) -> None:
    models = pair(case)
    ids, mask = padded(models, "right")
    held, past = models.ours.new_cache(4), draw(4, 3, seed=2)
    models.ours(ids, mask, decoder_input_ids=past, past_key_values=held, use_cache=True)
    memory = held.cross.pairs[0][0]
    rows = list(range(4))
    for chosen in (
        [0, 0, 1, 1, 2, 2, 3, 3],
        [1, 0, 2, 2, 5, 4, 7, 7],
        [0, 2, 2, 3, 5, 7],
        [5, 0, 1],
        [2, 1, 1, 1],
    ):
        held.select(torch.tensor(chosen))
        assert held.cross.pairs[0][0].shape[0] <= 4
        rows, past = [rows[row] for row in chosen], past[chosen]
        new = draw(len(rows), 1, seed=len(rows))
        found = models.ours(decoder_input_ids=new, past_key_values=held, output_attentions=True)
        past = torch.cat((past, new), dim=1)
        other = models.reference(
            ids[rows], attention_mask=mask[rows], decoder_input_ids=past, output_attentions=True, use_cache=False
        )
        close(found.logits[:, 0], other.logits[:, -1])
        for mine, theirs in zip(found.cross_attentions, other.cross_attentions, strict=True):
            close(mine, theirs[:, :, -1:])
        if len(rows) >= 6:
            assert held.cross.pairs[0][0].data_ptr() == memory.data_ptr(), "beams copied what they read"


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_padded_decoder_inputs(case: str) -> None:
    models = pair(case)
    ids, mask = padded(models, "right")
    sides = ["right"] if case in COUNTING else ["right", "left"]
    for side in sides:
        new, seen = padded(models, side, (6, 2, 5, 6), seed=4)
        inputs = {"decoder_input_ids": new, "decoder_attention_mask": seen}
        expected = models.reference(ids, attention_mask=mask, **inputs).logits
        own = models.ours(ids, mask, **inputs, use_cache=True)
        close(own.logits[seen == 1], expected[seen == 1])
        more = draw(4, 2, seed=6)
        longer = {
            "decoder_input_ids": torch.cat((new, more), 1),
            "decoder_attention_mask": torch.cat((seen, torch.ones_like(more)), 1),
        }
        found = models.ours(decoder_input_ids=more, past_key_values=own.past_key_values).logits
        if side == "left":
            close(found, models.reference(ids, attention_mask=mask, **longer).logits[:, -2:])
        else:
            for row, count in enumerate(seen.sum(1).tolist()):
                alone = torch.cat((new[row : row + 1, :count], more[row : row + 1]), 1)
                one = models.reference(ids[row : row + 1], attention_mask=mask[row : row + 1], decoder_input_ids=alone)
                close(found[row], one.logits[0, -2:])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients(case: str, side: str) -> None:
    models = pair(case)
    ids, mask = padded(models, side)
    labels = draw(4, 6, seed=3)
    labels[1:, -2:] = -100
    own, other = models.ours(ids, mask, labels=labels), models.reference(ids, attention_mask=mask, labels=labels)
    close(own.loss, other.loss)
    own.loss.backward()
    other.loss.backward()
    close(gradients(models.ours), gradients(models.reference))
    made = models.ours.prepare_decoder_input_ids_from_labels(labels=labels)
    if hasattr(models.reference, "prepare_decoder_input_ids_from_labels"):
        assert torch.equal(made, models.reference.prepare_decoder_input_ids_from_labels(labels))
    # As the Trainer passes them.
    close(models.ours(ids, mask, decoder_input_ids=made, labels=labels).loss, other.loss)


@pytest.mark.parametrize("case", CASES)
def test_dropout_is_where_the_reference_has_it(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a dropout that only scales, a model in training is a function of where its dropouts are and how strong."""

    def scale(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return x * (1 - p / 2) if training else x

    for name, module in list(sys.modules.items()):
        for own in ("dropout", "drop"):
            if name.startswith("formers.") and vars(module).get(own) is dropout:
                monkeypatch.setattr(module, own, scale)
    models = new_pair(case)
    models.ours.set_attn_implementation("eager")
    monkeypatch.setattr(F, "dropout", scale)
    models.ours.train()
    models.reference.train()
    ids, mask = padded(models, "right")
    labels = draw(4, 6, seed=3)
    with torch.no_grad():
        own = models.ours(ids, mask, labels=labels)
        other = models.reference(ids, attention_mask=mask, labels=labels, use_cache=False)
    close(own.logits, other.logits)
    close(own.loss, other.loss)


@pytest.mark.parametrize("case", CASES)
def test_gradient_checkpointing_gives_the_same_gradients(case: str) -> None:
    models = new_pair(case)
    ids, mask = padded(models, "right")
    model, found = models.ours.train(), []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        assert model.is_gradient_checkpointing is checkpointing
        torch.manual_seed(3)
        model(ids, mask, labels=draw(4, 6, seed=3)).loss.backward()
        found.append(gradients(model))
    close(found[1], found[0], atol=1e-7)


def test_layers_are_left_out_in_training() -> None:
    config = formers.M2M100Config(**{**TINY_SEQ2SEQ["m2m_100"], "encoder_layerdrop": 1.0, "decoder_layerdrop": 1.0})
    model, ran = formers.M2M100ForConditionalGeneration(config), []
    for layer in (*model.encoder.layers, *model.decoder.layers):
        layer.register_forward_pre_hook(lambda *_: ran.append(1))
    inputs = {"input_ids": draw(2, 5), "labels": draw(2, 4)}
    model.train()(**inputs)
    assert not ran
    model.eval()(**inputs)
    assert len(ran) == 5


@torch.no_grad()
def test_errors_name_the_remedy() -> None:
    model = pair("t5").ours
    ids, new = draw(2, 5), draw(2, 3)
    with pytest.raises(InputError, match=r"decoder has no input.*labels, or call model.generate"):
        model(ids)
    with pytest.raises(InputError, match=r"nothing to read.*get_encoder"):
        model(decoder_input_ids=new)
    with pytest.raises(InputError, match=r"3 rows; 2 sources.*one source a row"):
        model(ids, decoder_input_ids=draw(3, 3))
    with pytest.raises(InputError, match=r"encoder_outputs is a str.*get_encoder"):
        model(encoder_outputs="x", decoder_input_ids=new)
    made = model.get_encoder()(ids)
    with pytest.raises(InputError, match=r"shape \(2, 4\).*\(2, 5\)"):
        model(encoder_outputs=made, attention_mask=torch.ones(2, 4), decoder_input_ids=new)
    with pytest.raises(InputError, match=r"A loss needs all logits"):
        model(ids, labels=new, logits_to_keep=1)
    config = formers.T5Config(**{**TINY_SEQ2SEQ["t5"], "decoder_start_token_id": None})
    with pytest.raises(ConfigError, match=r"decoder_start_token_id, which is None.*pass decoder_input_ids"):
        formers.T5ForConditionalGeneration(config)(ids, labels=new)
    with pytest.raises(ConfigError, match=r"feed_forward_proj is 'open-gelu'"):
        formers.T5ForConditionalGeneration(formers.T5Config(feed_forward_proj="open-gelu"))
    with pytest.raises(InputError, match=r"eos_token_id \(1\).*leave decoder_input_ids out"):
        pair("t5", "ForSequenceClassification").ours(ids)
    with pytest.raises(InputError, match=r"empty caches alone"):
        formers.EncoderDecoderCache(model(ids, decoder_input_ids=new).past_key_values)
