"""All blocks as one compiled call, against the blocks themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("numba")

from torch import Tensor, nn

import formers
from formers.hub.gguf_blocks import Blocks
from formers.hub.gguf_types import TYPES
from formers.layers.linear import Stored

KINDS = {name: kind for kind, (name, _, _) in TYPES.items()}
SMALL = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
}


def blocks(name: str, rows: int, columns: int) -> tuple[Blocks, Tensor]:
    """Random blocks with small scales, and their weights."""
    _, elements, width = TYPES[KINDS[name]]
    data = torch.randint(0, 256, (rows * columns // elements, width), dtype=torch.uint8)
    for place in (0, 2) if name == "Q4_1" else (0,):
        data[:, place : place + 2] = ((torch.rand(len(data), 1) - 0.5) / 100).half().view(torch.uint8)
    made = Blocks(KINDS[name], data.view(rows, -1))
    parts = made.parts()
    low, high = parts.codes & 15, parts.codes >> 4
    codes = torch.cat((low, high), dim=-1) if parts.bits == 4 else parts.codes
    weights = codes.float() * parts.scale[..., None]
    if parts.minimum is not None:
        weights = weights + parts.minimum[..., None]
    return made, weights.reshape(rows, columns)


def model(kind: str = "Llama", **settings: Any) -> Any:
    """A small model whose matrices came from blocks, those of keys of another kind than the others."""
    torch.manual_seed(0)
    config = getattr(formers, f"{kind}Config")(**{**SMALL, **settings})
    made = getattr(formers, f"{kind}ForCausalLM")(config).eval()
    for name, parameter in made.named_parameters():
        if name.endswith("_proj.weight"):
            each, weights = blocks("Q8_0" if "k_proj" in name else "Q4_1", *parameter.shape)
            parameter.data = weights
            made.blocks[name] = Stored.of(parameter, each)
        else:
            parameter.data = torch.randn_like(parameter) * 0.3 + (0.5 if "norm" in name else 0)
    return made.for_inference()


def reference(it: Any) -> Any:
    """The same model without its program."""
    it = copy.deepcopy(it)
    assert it.model.program is None
    return it


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each compiled pass had."""
    from formers.layers.program import Program

    counted: list[int] = []
    run = Program.run

    def watched(self: Program, x: Tensor, *rest: Any) -> Tensor:
        counted.append(len(x))
        return run(self, x, *rest)

    monkeypatch.setattr(Program, "run", watched)
    return counted


FAMILIES = [
    ("Llama", {}),
    ("Llama", {"head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 2}),
    ("Llama", {"head_dim": 64}),
    ("Qwen2", {"head_dim": 16}),
    ("Qwen2", {"head_dim": 32}),
    ("Qwen3", {}),
    ("Mistral", {"sliding_window": 5}),
    ("Gemma", {}),
    (
        "Phi3",
        {
            "pad_token_id": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
        },
    ),
]


@pytest.mark.parametrize(("kind", "settings"), FAMILIES)
@torch.no_grad()
def test_same_numbers_and_the_same_cache(kind: str, settings: dict[str, Any], runs: list[int]) -> None:
    fast = model(kind, **settings)
    slow = reference(fast)
    generator = torch.Generator().manual_seed(1)
    caches = fast.new_cache(3), slow.new_cache(3)
    mask = torch.ones(3, 5, dtype=torch.long)
    mask[1, :2], mask[2, :4] = 0, 0
    # Few tokens at first, of unequal rows; then one a row, several a row, and so many that blocks take over.
    for length in (5, 1, 1, 4, 7, 1, 1):
        ids = torch.randint(90, (3, length), generator=generator)
        given = mask if length == 5 and not any(caches[0].lengths) else None
        got, expected = (
            each(ids, attention_mask=given, past_key_values=cache).logits
            for each, cache in zip((fast, slow), caches, strict=True)
        )
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        assert caches[0].lengths == caches[1].lengths
    assert runs == [9, 3, 3, 12, 3, 3]
    for left, right in zip(caches[0].stores, caches[1].stores, strict=True):
        assert left.bases == right.bases
        for row, (length, base) in enumerate(zip(caches[0].lengths, left.bases, strict=True)):
            kept = (part.memory[:, :, row, : length - base] for part in (left, right))
            torch.testing.assert_close(*kept, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", [16, 32])
@torch.no_grad()
def test_long_texts_and_several_threads(head: int, runs: list[int]) -> None:
    fast = model(head_dim=head)
    slow = reference(fast)
    ids = torch.randint(90, (1, 300))
    caches = fast.new_cache(1), slow.new_cache(1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for each, cache in zip((fast, slow), caches, strict=True):
            each(ids, past_key_values=cache)
        for token in range(3):
            got, expected = (
                each(torch.tensor([[token]]), past_key_values=cache).logits
                for each, cache in zip((fast, slow), caches, strict=True)
            )
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)
    assert runs == [300, 1, 1, 1]


@pytest.mark.parametrize(("kind", "settings"), FAMILIES)
@pytest.mark.parametrize("keep", [0, 1])
@torch.no_grad()
def test_prompts_of_many_tokens(kind: str, settings: dict[str, Any], keep: int, runs: list[int]) -> None:
    fast = model(kind, **{**settings, **({"sliding_window": 40} if "sliding_window" in settings else {})})
    slow = reference(fast)
    ids = torch.randint(90, (4, 20))
    mask = torch.ones_like(ids)
    mask[0, :7], mask[2, :19] = 0, 0
    caches = fast.new_cache(4), slow.new_cache(4)
    for new, given in ((ids, mask), (ids[:, :1], None)):
        got, expected = (
            each(new, attention_mask=given, past_key_values=cache, logits_to_keep=keep).logits
            for each, cache in zip((fast, slow), caches, strict=True)
        )
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert runs == [54, 4]
    for row, length in enumerate(caches[0].lengths):
        kept = (cache.stores[0].memory[:, :, row, :length] for cache in caches)
        torch.testing.assert_close(*kept, rtol=1e-4, atol=1e-4)


def hook(it: Any) -> None:
    it.model.layers[1].mlp.register_forward_hook(lambda *_: None)


def replace(it: Any) -> None:
    it.model.layers[1].mlp.up_proj = nn.Linear(64, 96, bias=False)


def change(it: Any) -> None:
    it.model.layers[2].attn_norm.weight.data = it.model.layers[2].attn_norm.weight.data * 2


def change_in_place(it: Any) -> None:
    it.model.layers[2].self_attn.v_proj.weight.data.mul_(2)
    it.model.layers[2].self_attn.v_proj.weight.requires_grad_(False).add_(1)


def override(it: Any) -> None:
    it.model.layers[0].forward = lambda x, context: x


@pytest.mark.parametrize("act", [hook, replace, change, change_in_place, override])
def test_what_changes_the_blocks_ends_it(act: Callable[[Any], None], runs: list[int]) -> None:
    it = model()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = it(ids).logits
        assert runs == [3]
        act(it)
        after = it(ids).logits
        assert runs == [3]
        expected = it(ids, use_cache=False).logits
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-4)
    assert act is hook or not torch.allclose(before, after, rtol=1e-3, atol=1e-3)


def test_a_changed_model_can_be_prepared_again(runs: list[int]) -> None:
    it = model()
    change(it)
    it.for_inference()
    with torch.no_grad():
        got = it(torch.tensor([[5, 6, 7]])).logits
        expected = it(torch.tensor([[5, 6, 7]]), use_cache=False).logits
    assert runs == [3]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_gradients_maps_and_states_take_the_common_way(runs: list[int]) -> None:
    it = model()
    ids = torch.tensor([[5, 6, 7]])
    it(ids).logits.sum().backward()
    with torch.no_grad():
        assert len(it(ids, output_hidden_states=True).hidden_states) == 4
        it.set_attn_implementation("eager")
        it(ids)
    assert runs == []


def test_other_blocks_have_no_program() -> None:
    for kind in ("Gemma2", "StableLm", "Phi"):
        assert model(kind).model.program is None


@torch.no_grad()
def test_a_full_cache_is_an_error() -> None:
    it = model()
    cache = formers.StaticCache(max_cache_len=4)
    it(torch.tensor([[1, 2, 3]]), past_key_values=cache)
    it(torch.tensor([[1]]), past_key_values=cache)
    with pytest.raises(formers.errors.InputError, match="room for 4 tokens"):
        it(torch.tensor([[1]]), past_key_values=cache)
