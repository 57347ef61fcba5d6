"""The definition of an encoder–decoder, from the keys of its two halves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
    optional: Sequence[str] = (),
    unsaved: Mapping[str, Sequence[str]] | None = None,
) -> Definition:
    """A family whose `spec` is that of its decoder, which names the encoder's.

    `encoder` and `decoder` give the rules of both halves, below "encoder." and "decoder." in files. Their embeddings
    are "shared" there, and have names of their own where they are not. `on_encoder` are heads, with their
    architectures, that stand on the encoder alone. The rest is as in Definition.
    """

    def encoder_spec(values: Any) -> ModelSpec:
        half = spec(values).encoder
        assert half is not None
        return half

    def decoder_spec(values: Any) -> ModelSpec:
        whole = spec(values)
        return replace(whole, head=replace(whole.head, logits_bias=False))

    def first_rules(values: Any, model: str) -> list[Rule]:
        return [_tokens(spec(values), "encoder", model), *prefixed(encoder(values), "encoder.", model)]

    def all_rules(values: Any) -> Mapping[str, Sequence[Rule]]:
        second = [_tokens(spec(values), "decoder", "decoder."), *prefixed(decoder(values), "decoder.", "decoder.")]
        return {"Model": [*first_rules(values, "encoder."), *second]}

    first = Definition(
        config=config,
        spec=encoder_spec,
        base_prefix=base_prefix,
        rules=(),
        head_rules=head_rules,
        configured_rules=lambda values: {"Model": first_rules(values, "")},
        ignored=(*ignored, "*decoder.*", "lm_head.weight", "final_logits_bias"),
        optional=optional,
        architectures=on_encoder or {},
        base="EncoderModel",
    )
    second = Definition(
        config=config,
        spec=decoder_spec,
        base_prefix=f"{base_prefix}.decoder",
        rules=(Rename("embed_tokens", "embeddings.tokens"),),
        head_rules=head_rules,
        configured_rules=lambda values: {"Model": decoder(values)},
        ignored=ignored,
        architectures={"ForCausalLM": "DecoderForCausalLM"},
        base="DecoderModel",
    )
    return Definition(
        config=config,
        spec=spec,
        base_prefix=base_prefix,
        rules=(),
        head_rules=head_rules,
        configured_rules=all_rules,
        prefixes=prefixes or {},
        ignored=ignored,
        optional=optional,
        unsaved=unsaved or {},
        architectures=SEQ2SEQ,
        halves={
            "EncoderModel": first,
            **dict.fromkeys(on_encoder or {}, first),
            "DecoderModel": second,
            "ForCausalLM": second,
        },
    )


def _tokens(spec: ModelSpec, half: str, model: str) -> Rename:
    own = f"{half}.embed_tokens"
    name = f"{model}embeddings.tokens"
    return Rename(own, name) if spec.own_embeddings else Rename("shared", name, copy=own)
