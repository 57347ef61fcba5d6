"""Every registered decoder: outputs, caches, gradients and files equal the reference's."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

import formers
from formers.layers.attention import eager
from formers.registry import FAMILIES
from tests.parity.pairs import DECODERS, close, scramble
from tests.parity.tiny_decoders import TINY_DECODERS, VARIANTS

CASES = [*DECODERS, *VARIANTS]
HEADS = [(model_type, head) for model_type in DECODERS for head in FAMILIES[model_type].heads[2:]]
# Frequencies that hang on the longest text so far: tokens of a cache keep those of their own time.
CHANGING = ("dynamic", "longrope")
# The reference's eager attention adds slopes twice here; its other one does not.
TWICE = ("falcon-rw",)
LENGTHS = (9, 4, 6, 4)


@dataclass(frozen=True)
class Pair:
    """One model twice, with the same weights, and the files that the reference wrote."""

    reference: Any
    ours: Any
    state: dict[str, Tensor]


def language_head(model_type: str) -> str:
    return FAMILIES[model_type].heads[1]


def pair(case: str, head: str = "") -> Pair:
    """The reference's model, and ours read from its files; tests leave them as they found them."""
    # The reference remembers the longest text, so that each test needs its own.
    return _new_pair(case, head) if case in CHANGING else _shared_pair(case, head)


@cache
def _shared_pair(case: str, head: str) -> Pair:
    return _new_pair(case, head)


def _new_pair(case: str, head: str) -> Pair:
    model_type, values = VARIANTS.get(case, (case, {}))
    values = {**TINY_DECODERS[model_type], **values}
    family, head = FAMILIES[model_type], head or language_head(model_type)
    labels = {"num_labels": 2 if head == "ForQuestionAnswering" else 3}
    config = getattr(transformers, family.prefix + "Config")(**values, **labels)
    config._attn_implementation = "sdpa" if case in TWICE else "eager"
    first = getattr(transformers, family.class_name(head))(config)
    scramble(first, 0)
    with tempfile.TemporaryDirectory() as folder:
        first.save_pretrained(folder)
        state = load_file(Path(folder) / "model.safetensors")
        # What our own configuration makes of the same values is the same model.
        own = getattr(formers, family.prefix + "Config")(**values, **labels)
        second, info = getattr(formers, family.class_name(head)).from_pretrained(
            folder, config=own, output_loading_info=True
        )
        read = getattr(formers, family.prefix + "Config").from_pretrained(folder)
    assert {name: found for name, found in info.items() if found} == {}
    assert second.definition.spec(read) == second.spec
    return Pair(first.eval(), second, state)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(1, 61, shape, generator=torch.Generator().manual_seed(seed))


def padded(side: str) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask, and the positions that count real tokens."""
    place = torch.arange(max(LENGTHS))
    mask = ((place.flip(0) if side == "left" else place) < torch.tensor(LENGTHS)[:, None]).long()
    return draw(*mask.shape) * mask, mask, (mask.cumsum(1) - 1).clamp(min=0)


def by_position(models: Pair, positions: Tensor) -> dict[str, Tensor]:
    """The reference takes positions, except where it counts tokens of the mask itself."""
    return {} if models.ours.spec.slopes else {"position_ids": positions}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_logits_states_and_attentions(case: str) -> None:
    models, ids = pair(case), draw(3, 9)
    asked = {"output_hidden_states": True, "output_attentions": case not in TWICE}
    own, other = models.ours(ids, **asked), models.reference(ids, **asked)
    close(own.logits, other.logits)
    assert len(own.hidden_states) == len(other.hidden_states)
    found = (*own.hidden_states, *(own.attentions or ()))
    for mine, theirs in zip(found, (*other.hidden_states, *(other.attentions or ())), strict=True):
        close(mine, theirs)
    close(models.ours(ids).logits, other.logits)
    if models.ours.spec.score_cap is None:
        models.ours.set_attn_implementation(lambda *parts, **options: eager(*parts, **options))
        close(models.ours(ids).logits, other.logits)
        models.ours.set_attn_implementation("sdpa")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_padding_and_cache(case: str, side: str) -> None:
    """Rows of unequal length, several tokens against a filled cache, then one at a time."""
    models = pair(case)
    ids, mask, positions = padded(side)
    own = models.ours(ids, mask, use_cache=True)
    other = models.reference(ids, attention_mask=mask, use_cache=True, **by_position(models, positions))
    close(own.logits[mask == 1], other.logits[mask == 1])
    last = [row.nonzero().max() for row in mask]
    expected = torch.stack([logits[place] for logits, place in zip(other.logits, last, strict=True)])
    close(models.ours(ids, mask, logits_to_keep=1).logits[:, 0], expected)
    held, theirs = own.past_key_values, other.past_key_values
    if side == "right" and models.ours.spec.windows:
        # The reference counts padding between a row's tokens in its windows.
        return
    for step, count in enumerate((3, 1, 1, 4, 1)):
        new = draw(len(LENGTHS), count, seed=step + 5)
        mask = torch.cat((mask, torch.ones_like(new)), dim=1)
        position = (mask.cumsum(1) - 1)[:, -count:]
        mine = models.ours(new, mask if step % 2 else None, past_key_values=held)
        inputs = {"attention_mask": mask, "past_key_values": theirs}
        expected = models.reference(new, **inputs, **by_position(models, position)).logits
        close(mine.logits, expected)
        assert mine.past_key_values is held
        assert held.lengths == mask.sum(1).tolist()
    # In another order, with rows repeated and left out.
    rows = torch.tensor([2, 0, 2])
    held.select(rows)
    theirs.batch_select_indices(rows)
    mask = torch.cat((mask[rows], torch.ones(3, 1, dtype=torch.long)), dim=1)
    new, position = draw(3, 1, seed=3), (mask.cumsum(1) - 1)[:, -1:]
    expected = models.reference(new, attention_mask=mask, past_key_values=theirs, **by_position(models, position))
    close(models.ours(new, past_key_values=held, logits_to_keep=1).logits, expected.logits)


@pytest.mark.parametrize("case", [case for case in CASES if case not in CHANGING])
@torch.no_grad()
def test_in_pieces_is_at_once(case: str) -> None:
    """Prefill in unequal pieces a row, going back, and prepared weights give what one forward gives."""
    model, ids = pair(case).ours, draw(2, 12)
    expected = model(ids, use_cache=False).logits
    held = model.new_cache(2)
    pieces = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    model(ids[:, :4], pieces, past_key_values=held)
    assert held.lengths == [4, 2]
    both = torch.stack((ids[0, 4:8], ids[1, 2:6]))
    found = model(both, torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]), past_key_values=held).logits
    assert held.lengths == [6, 6]
    close(found[0, :2], expected[0, 4:6])
    close(found[1], expected[1, 2:6])
    model(ids[:, 6:], past_key_values=held)
    held.crop(-5)
    close(model(ids[:, 7:], past_key_values=held).logits, expected[:, 7:])
    held.crop([10, 8])
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    found = model(torch.stack((ids[0, 8:].roll(-2), ids[1, 8:])), mask, past_key_values=held).logits
    close(found[1], expected[1, 8:])
    close(found[0, :2], expected[0, 10:])


@pytest.mark.parametrize("case", CASES)
def test_gradients(case: str) -> None:
    models = pair(case)
    ids, mask, positions = padded("right")
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, 2] = -100
    loss = models.ours(ids, mask, labels=labels).loss
    inputs = {"attention_mask": mask, "labels": labels, "use_cache": False}
    expected = models.reference(ids, **inputs, **by_position(models, positions)).loss
    close(loss, expected)
    loss.backward()
    expected.backward()
    own, other = models.ours, models.reference
    close(own.get_input_embeddings().weight.grad, other.get_input_embeddings().weight.grad, atol=2e-5)
    norms = []
    for model in (own, other):
        unique = {id(parameter): parameter for parameter in model.parameters() if parameter.grad is not None}
        norms.append(torch.stack([parameter.grad.double().square().sum() for parameter in unique.values()]).sum())
        model.zero_grad(set_to_none=True)
    close(norms[0], norms[1])


@pytest.mark.parametrize("case", CASES)
def test_files(case: str, tmp_path: Path) -> None:
    """What we write is what the reference writes, and the reference reads it."""
    models = pair(case)
    models.ours.save_pretrained(tmp_path)
    own = load_file(tmp_path / "model.safetensors")
    assert own.keys() == models.state.keys()
    assert all(torch.equal(own[name], models.state[name]) for name in own)
    loaded, info = type(models.reference).from_pretrained(
        tmp_path,
        output_loading_info=True,
        local_files_only=True,
        attn_implementation=models.reference.config._attn_implementation,
    )
    assert {name: found for name, found in info.items() if found} == {}
    with torch.no_grad():
        close(models.ours(draw(1, 12)).logits, loaded(draw(1, 12)).logits)


@pytest.mark.parametrize(("model_type", "head"), HEADS)
def test_other_heads(model_type: str, head: str) -> None:
    models = pair(model_type, head)
    ids, mask, positions = padded("right")
    models.ours.config.pad_token_id = models.reference.config.pad_token_id = 0
    labels: dict[str, Tensor] = {"labels": torch.tensor([0, 2, 1, 1])}
    if head == "ForTokenClassification":
        labels = {"labels": (ids % 3).masked_fill(mask == 0, -100)}
    elif head == "ForQuestionAnswering":
        labels = {"start_positions": torch.tensor([1, 2, 0, 3]), "end_positions": torch.tensor([5, 3, 0, 3])}
        mask, positions = torch.ones_like(mask), torch.arange(ids.shape[1]).expand_as(ids)
    with torch.no_grad():
        own = models.ours(ids, mask, **labels)
        other = models.reference(ids, attention_mask=mask, **labels, **by_position(models, positions))
    close(own.loss, other.loss)
    if head == "ForSequenceClassification":
        close(own.logits, other.logits)
    elif head == "ForTokenClassification":
        close(own.logits[mask == 1], other.logits[mask == 1])
    else:
        close(own.start_logits, other.start_logits)
        close(own.end_logits, other.end_logits)


@pytest.mark.parametrize("model_type", DECODERS)
@torch.no_grad()
def test_prepared_weights_change_nothing(model_type: str) -> None:
    model, ids = pair(model_type).ours, draw(2, 7)
    expected = model(ids).logits
    fresh = type(model)(model.config)
    fresh.load_state_dict(model.state_dict())
    fresh.for_inference()
    close(fresh(ids).logits, expected)
    held = fresh(ids[:, :5]).past_key_values
    close(fresh(ids[:, 5:6], past_key_values=held).logits[:, 0], expected[:, 5])
    assert type(formers.AutoModelForCausalLM.from_config(model.config)) is type(model)
