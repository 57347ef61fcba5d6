"""Checkpoint rules: every one can be read both ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formers.errors import CheckpointError
from formers.models.keys import Fuse, Place, Rename, modern, place, prefixed, read, write
from tests.parity.pairs import heads, pair

RULES = (
    Rename("encoder.layer.{}.query", "layers.{}.q_proj"),
    Rename("groups.{}.blocks.{}.out", "layers.{}.parts.{}.o_proj"),
    Rename("h.{}.c_fc", "layers.{}.up_proj", transpose=True),
    Fuse("layers.{}.qkv", ("layers.{}.q", "layers.{}.k", "layers.{}.v")),
    Rename("predictions.bias", "head.output.bias", copy="predictions.decoder.bias"),
    Rename("predictions.decoder", "head.output"),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layers.11.q_proj.weight", Place("encoder.layer.11.query.weight")),
        ("layers.3.parts.4.o_proj.bias", Place("groups.3.blocks.4.out.bias")),
        ("layers.0.up_proj.weight", Place("h.0.c_fc.weight", transpose=True)),
        ("layers.0.up_proj.bias", Place("h.0.c_fc.bias")),
        ("layers.2.k.weight", Place("layers.2.qkv.weight", 1, 3, sizes=(1, 1, 1))),
        ("head.output.bias", Place("predictions.bias", copy="predictions.decoder.bias")),
        ("head.output.weight", Place("predictions.decoder.weight")),
        ("layers.0.q_proj_norm.weight", Place("layers.0.q_proj_norm.weight")),
        ("unknown", Place("unknown")),
    ],
)
def test_places(name: str, expected: Place) -> None:
    assert place(name, RULES) == expected


def test_rules_below_a_prefix() -> None:
    rules = prefixed(RULES, "bert.", "model.")
    assert place("model.layers.1.q_proj.weight", rules).key == "bert.encoder.layer.1.query.weight"
    assert place("model.layers.1.v.bias", rules) == Place("bert.layers.1.qkv.bias", 2, 3, sizes=(1, 1, 1))
    assert place("model.layers.1.up_proj.weight", rules).transpose
    assert place("model.head.output.bias", rules).copy == "bert.predictions.decoder.bias"
    assert place("model.unknown.weight", rules).key == "bert.unknown.weight"
    assert place("head.unknown.weight", rules).key == "head.unknown.weight"


@given(st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_writing_and_reading(rows: int, columns: int, copies: bool) -> None:
    names = ["layers.0.up_proj.weight", "layers.0.q.weight", "layers.0.k.weight", "layers.0.v.weight"]
    own = {name: torch.randn(rows, columns) for name in [*names, "head.output.bias"]}
    file = write(own, lambda name: place(name, RULES), copies)
    assert file["h.0.c_fc.weight"].shape == (columns, rows)
    assert file["layers.0.qkv.weight"].shape == (3 * rows, columns)
    assert ("predictions.decoder.bias" in file) is copies
    for name, tensor in own.items():
        where = place(name, RULES)
        assert torch.equal(read(where, file[where.key]), tensor)


def test_parts_that_are_missing() -> None:
    with pytest.raises(CheckpointError, match=r"Only 2 of 3 parts of 'layers\.0\.qkv\.weight' are given"):
        write({f"layers.0.{part}.weight": torch.ones(1, 1) for part in "qv"}, lambda n: place(n, RULES), False)


def test_old_spellings() -> None:
    assert modern("a.LayerNorm.gamma") == "a.LayerNorm.weight"
    assert modern("a.LayerNorm.beta") == "a.LayerNorm.bias"
    assert modern("a.gamma.weight") == "a.gamma.weight"


@pytest.mark.parametrize(("model_type", "head"), heads())
def test_every_tensor_has_a_place_of_its_own(model_type: str, head: str) -> None:
    model: Any = pair(model_type, head).ours
    places = [model.place(name) for name in model.state_dict()]
    assert len({(where.key, where.part) for where in places}) == len(places)
    known = pair(model_type, head).reference.state_dict()
    assert {where.key for where in places} <= set(known)
    assert {where.copy for where in places} - {None} <= set(known)
