"""One token of each row as one compiled call, against the blocks themselves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

pytest.importorskip("numba")

from torch import Tensor

import formers
from formers.layers.stepped import MOST_ROWS, Stepped

_T5 = {"vocab_size": 96, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 3, "num_heads": 4}
_T5 |= {"decoder_start_token_id": 0}
_BART = {
    "vocab_size": 96,
    "d_model": 96,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 80,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 2,
}
READERS = {
    "T5": ("T5", _T5),
    "T5 gated": ("T5", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "T5 narrow heads": ("T5", {**_T5, "d_kv": 48, "num_heads": 3}),
    "UMT5": ("UMT5", _T5),
    "Bart": ("Bart", _BART),
    "Marian": ("Marian", {**_BART, "activation_function": "swish"}),
    "Pegasus": ("Pegasus", {**_BART, "activation_function": "relu"}),
    "M2M100": ("M2M100", _BART),
}
WRITERS = {
    "GPT2": ("GPT2", {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "OPT": (
        "OPT",
        {
            "vocab_size": 96,
            "hidden_size": 64,
            "word_embed_proj_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 80,
            "max_position_embeddings": 64,
        },
    ),
}


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each compiled step had."""
    counted: list[int] = []
    run = Stepped.run

    def watched(self: Stepped, layers: Any, x: Tensor, *rest: Any) -> Tensor:
        counted.append(len(x))
        return run(self, layers, x, *rest)

    monkeypatch.setattr(Stepped, "run", watched)
    return counted


def model(kind: str, settings: dict[str, Any], auto: Any = formers.AutoModelForSeq2SeqLM) -> Any:
    torch.manual_seed(0)
    made = auto.from_config(getattr(formers, f"{kind}Config")(**settings)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def decoder(made: Any) -> Any:
    return made.get_decoder() if hasattr(made, "get_decoder") else made.model


def ready(made: Any) -> Any:
    """The same model, whose steps are compiled."""
    made = copy.deepcopy(made).for_inference()
    decoder(made).finish_preparing()
    return made


SOURCE = torch.arange(2, 57).view(5, 11)
MASK = (torch.arange(11) < torch.tensor([[11], [6], [11], [4], [9]])).long()


@torch.inference_mode()
def read(made: Any, moved: list[int], mask: Tensor | None = MASK) -> Tensor:
    """The logits of 20 tokens, one by one, and of two at once, for five sources; rows change at times."""
    tokens = torch.randint(2, 96, (5, 20), generator=torch.Generator().manual_seed(1))
    first = made(input_ids=SOURCE, attention_mask=mask, decoder_input_ids=tokens[:, :1], use_cache=True)
    found, cache = [first.logits], first.past_key_values
    for place in range(1, 20):
        if place == 10:
            cache.select(moved)
        if place in (13, 17):
            cache.select([*range(1, len(moved)), 1])
        given = tokens[: len(moved) if place >= 10 else 5, place : place + 1]
        next_ = made(decoder_input_ids=given, past_key_values=cache)
        found.append(next_.logits)
    both = made(decoder_input_ids=tokens[: len(moved), :2], past_key_values=cache)
    found.append(both.logits)
    return torch.cat([each[: len(moved)] for each in found], dim=1)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", READERS)
def test_a_decoder_that_reads_an_encoder(name: str, runs: list[int]) -> None:
    reference = model(*READERS[name])
    made = ready(reference)
    for moved in ([0, 0, 1, 3, 2], [4, 1]):
        runs.clear()
        torch.testing.assert_close(read(made, moved), read(reference, moved), rtol=1e-4, atol=1e-4)
        assert runs == [5] * 9 + [len(moved)] * 10
    torch.testing.assert_close(
        read(made, [1, 0, 2, 4, 3], None), read(reference, [1, 0, 2, 4, 3], None), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("beams", [1, 3])
def test_what_is_generated_is_the_same(beams: int, runs: list[int]) -> None:
    reference = model(*READERS["T5"])
    settings = {"attention_mask": MASK, "max_new_tokens": 12, "num_beams": beams, "do_sample": False}
    texts = [each.generate(SOURCE, **settings).tolist() for each in (reference, ready(reference))]
    assert texts[0] == texts[1]
    assert runs
    assert max(runs) == 5 * beams


@pytest.mark.parametrize("name", WRITERS)
def test_a_decoder_alone_with_rows_of_unequal_length(name: str, runs: list[int]) -> None:
    reference = model(*WRITERS[name], auto=formers.AutoModelForCausalLM)
    found = []
    for made in (reference, ready(reference)):
        cache, logits = decoder(made).new_cache(5), []
        with torch.inference_mode():
            made(SOURCE, attention_mask=MASK, past_key_values=cache)
            for place in range(8):
                logits.append(made(SOURCE[:, place : place + 1], past_key_values=cache).logits)
        found.append(torch.cat(logits, dim=1))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
    assert runs == [5] * 8


def test_others_are_left_to_the_blocks(runs: list[int]) -> None:
    made = ready(model(*WRITERS["GPT2"], auto=formers.AutoModelForCausalLM))
    cache = decoder(made).new_cache(1)
    one = SOURCE[:1, :1]
    with torch.no_grad():
        made(SOURCE[:1], past_key_values=cache)
        made(SOURCE[:1, :2], past_key_values=cache)
        made(one, past_key_values=cache, output_hidden_states=True)
        many = torch.ones(MOST_ROWS + 1, 1, dtype=torch.long)
        made(many, past_key_values=decoder(made).new_cache(len(many)))
        hook = decoder(made).layers[0].register_forward_hook(lambda *_: None)
        made(one, past_key_values=cache)
        hook.remove()
    made(one, past_key_values=cache)
    assert not runs
    with torch.no_grad():
        made(one, past_key_values=cache)
    assert runs == [1]


def test_other_weights_are_noticed() -> None:
    reference = model(*READERS["Marian"])
    made = ready(reference)
    order = [0, 1, 2, 3, 4]
    before = read(made, order)
    with torch.no_grad():
        for each in (made, reference):
            decoder(each).layers[1].mlp.up_proj.weight.mul_(2)
    after = read(made, order)
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after, read(reference, order), rtol=1e-4, atol=1e-4)


def test_rotary_decoders_are_not_stepped() -> None:
    config = formers.LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4
    )
    assert formers.LlamaForCausalLM(config).eval().for_inference().model.stepped is None
