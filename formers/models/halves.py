"""The definition of an encoder–decoder, from the keys of its two halves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from formers.configuration import PreTrainedConfig
from formers.models.keys import Rename, Rule, prefixed
from formers.models.spec import SEQ2SEQ, Definition, ModelSpec

# The rules of one half for a configuration.
HalfRules = Callable[[Any], Sequence[Rule]]


def encoder_decoder(
    config: type[PreTrainedConfig],
    spec: Callable[[Any], ModelSpec],
    *,
    encoder: HalfRules,
    decoder: HalfRules,
    base_prefix: str,
    head_rules: Mapping[str, Sequence[Rule]],
    prefixes: Mapping[str, str] | None = None,
    on_encoder: Mapping[str, str] | None = None,
    ignored: Sequence[str] = (),
) -> Definition:
    """A family whose `spec` is that of its decoder, which names the encoder's.

    `encoder` and `decoder` give the rules of both halves, below "encoder." and "decoder." in files. Their embeddings
    are "shared" there, and have names of their own where they are not. `on_encoder` are heads, with their
    architectures, that stand on the encoder alone.
    """

    def encoder_spec(values: Any) -> ModelSpec:
        half = spec(values).encoder
        assert half is not None
        return half

    first = Definition(
        config=config,
        spec=encoder_spec,
        base_prefix=base_prefix,
        rules=(Rename("shared", "embeddings.tokens", copy="encoder.embed_tokens"),),
        head_rules=head_rules,
        configured_rules=lambda values: {"Model": prefixed(encoder(values), "encoder.", "")},
        ignored=(*ignored, "*decoder.*", "lm_head.weight", "final_logits_bias"),
        architectures=on_encoder or {},
        base="EncoderModel",
    )
    second = Definition(
        config=config,
        spec=spec,
        base_prefix=f"{base_prefix}.decoder",
        rules=(Rename("embed_tokens", "embeddings.tokens"),),
        head_rules=head_rules,
        configured_rules=lambda values: {"Model": decoder(values)},
        ignored=ignored,
        architectures={"ForCausalLM": "DecoderForCausalLM"},
        base="DecoderModel",
    )

    def both(values: Any) -> Mapping[str, Sequence[Rule]]:
        halves = prefixed(encoder(values), "encoder.", "encoder."), prefixed(decoder(values), "decoder.", "decoder.")
        return {"Model": [*halves[0], *halves[1]]}

    return Definition(
        config=config,
        spec=spec,
        base_prefix=base_prefix,
        rules=tuple(
            Rename("shared", f"{half}.embeddings.tokens", copy=f"{half}.embed_tokens")
            for half in ("encoder", "decoder")
        ),
        head_rules=head_rules,
        configured_rules=both,
        prefixes=prefixes or {},
        ignored=ignored,
        architectures=SEQ2SEQ,
        halves={
            "EncoderModel": first,
            **dict.fromkeys(on_encoder or {}, first),
            "DecoderModel": second,
            "ForCausalLM": second,
        },
    )
