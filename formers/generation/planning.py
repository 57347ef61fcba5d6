"""From the arguments of a call to a plan: prompts, limits, processors and criteria, all checked before work starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from formers.errors import InputError, UnsupportedError
from formers.generation import processors as p
from formers.generation import warpers as w
from formers.generation.config import DEFAULT_NEW_TOKENS, GenerationConfig
from formers.generation.drawing import Numbers, row_seed
from formers.generation.forward import Forward
from formers.generation.processing import LogitsProcessor, LogitsProcessorList, token_ids
from formers.generation.rows import Prompts, Row, read_prompts
from formers.generation.sources import Conditioned, Source, decoder_prompts, is_encoder_decoder, read_source
from formers.generation.steps import Plan
from formers.generation.stopping import StoppingCriteriaList, StopStringCriteria
from formers.generation.validation import OUTPUTS
from formers.layers.cache import StaticCache

# New tokens that a cache has room for at once.
_ROOM = 256


@dataclass
class Call:
    """The arguments of one call that are no settings."""

    inputs: Any = None
    attention_mask: Tensor | None = None
    logits_processor: Iterable[LogitsProcessor] | None = None
    stopping_criteria: Iterable[Callable[..., Any]] | None = None
    prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None = None
    assistant_model: Any = None
    tokenizer: Any = None
    past_key_values: Any = None
    streamer: Any = None
    # Settings where nobody says anything, the model's own configuration neither.
    defaults: GenerationConfig | None = None
    # In place of the model's own configuration.
    own: GenerationConfig | None = None
    # Of encoder–decoders: what the encoder reads in place of ids, or has read, and the decoder's prompts.
    input_features: Tensor | None = None
    inputs_embeds: Tensor | None = None
    encoder_outputs: Any = None
    decoder_input_ids: Any = None
    decoder_attention_mask: Tensor | None = None


def model_config(model: Any) -> GenerationConfig:
    """The generation configuration of a model: its own, or what its configuration says."""
    own = getattr(model, "generation_config", None)
    if isinstance(own, GenerationConfig):
        return own
    config = getattr(model, "config", None)
    return GenerationConfig() if config is None else GenerationConfig.from_model_config(config)


def plan(
    model: Any, call: Call, passed: GenerationConfig | Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> Plan:
    """Everything of one call, or an error that says what to change."""
    own = model_config(model) if call.own is None else call.own
    config = (own if call.defaults is None else call.defaults.under(own)).merged(passed, settings)
    _check_forced(model, config)
    device = torch.device(model.device)
    ends = frozenset(() if config.eos_token_id is None else token_ids(config.eos_token_id)) - {-1}
    pad = config.pad_token_id if config.pad_token_id is not None and config.pad_token_id >= 0 else None
    if pad is None and ends:
        pad = token_ids(config.eos_token_id or 0)[0]
    source = _source(model, call, pad)
    if source is None:
        begins = set() if config.bos_token_id is None else {config.bos_token_id}
        prompts = read_prompts(call.inputs, call.attention_mask, pad, {*ends, *begins}, device)
    else:
        prompts = decoder_prompts(model, config, source, call.decoder_input_ids, call.decoder_attention_mask, pad)
    copies = 1 if config.num_beams != 1 else int(config.num_return_sequences or 1)
    rows = [
        Row(prompt * copies + copy, list(ids), len(ids), limit)
        for prompt, (ids, limit) in enumerate(zip(prompts.rows, _limits(model, config, prompts), strict=True))
        for copy in range(copies)
    ]
    if config.do_sample:
        for row in rows:
            read = [] if source is None else source.row(row.index // copies)
            row.numbers = Numbers(row_seed(config.seed, read + row.ids, row.index % copies))
    criteria = StoppingCriteriaList(call.stopping_criteria or ())
    constraint = _constraint(model, config, call, rows, ends)
    processors = LogitsProcessorList(_processors(config, prompts, rows, call, ends, source))
    processors.extend(call.logits_processor or ())
    if constraint is not None:
        processors.append(constraint)
    processors.extend(_warpers(config, ends))
    outputs = any(getattr(config, name) for name in OUTPUTS)
    reader = model if source is None else Conditioned(model, source)
    return Plan(
        config=config,
        prompts=prompts,
        rows=rows,
        forward=_forward(reader, config, call, rows, 0 if pad is None else pad),
        processors=processors,
        criteria=criteria,
        ends=ends,
        pad=0 if pad is None else pad,
        copies=copies,
        leave=processors.by_row and not criteria and call.streamer is None and not outputs,
        stop_strings=_stop_strings(config, call),
        constraint=constraint,
        deadline=None if config.max_time is None else time.monotonic() + config.max_time,
        visible=bool(config.return_dict_in_generate) or call.past_key_values is not None,
    )


def _check_forced(model: Any, config: GenerationConfig) -> None:
    """InputError for a token that is forced and not among the model's."""
    vocabulary = getattr(getattr(model, "spec", None), "vocab_size", None)
    if vocabulary is None:
        return
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        value = getattr(config, name)
        ids = [] if value is None else token_ids(value)
        if any(not 0 <= one < vocabulary for one in ids):
            raise InputError(
                f"{name}={value} was given, and the model has {vocabulary} tokens, from 0 on.",
                "Take the id from the model's own tokenizer: tokenizer.convert_tokens_to_ids(token).",
            )


def _limits(model: Any, config: GenerationConfig, prompts: Prompts) -> list[int]:
    """How many new tokens each prompt may get; a model with a table of positions has no more of them than it holds."""
    asked = _asked(model, config, prompts)
    spec = getattr(model, "spec", None)
    if spec is None or spec.positions is None:
        return asked
    places = spec.positions - spec.first_position
    longest = max(len(ids) for ids in prompts.rows)
    if longest > places:
        raise InputError(
            f"A prompt has {longest} tokens; this model's decoder takes at most {places}.",
            "Give a shorter one, such as its last tokens.",
        )
    # The last token of a text is not read.
    room = [places - len(ids) + 1 for ids in prompts.rows]
    return [max(1, min(limit, left)) for limit, left in zip(asked, room, strict=True)]


def _asked(model: Any, config: GenerationConfig, prompts: Prompts) -> list[int]:
    rows = len(prompts.rows)
    if config.max_new_tokens is not None:
        return [config.max_new_tokens] * rows
    lengths = [len(ids) for ids in prompts.rows] if prompts.ragged else [prompts.width] * rows
    if config.max_length is None:
        positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        room = [DEFAULT_NEW_TOKENS if positions is None else positions - length for length in lengths]
        return [max(1, min(DEFAULT_NEW_TOKENS, left)) for left in room]
    if max(lengths) >= config.max_length:
        raise InputError(
            f"A prompt has {max(lengths)} tokens, and max_length={config.max_length} counts the prompt.",
            "Raise max_length, or give max_new_tokens, which does not count it.",
        )
    return [config.max_length - length for length in lengths]


def _source(model: Any, call: Call, pad: int | None) -> Source | None:
    """What the encoder of an encoder–decoder reads; None for other models, which take ids alone."""
    names = ("input_features", "inputs_embeds", "encoder_outputs", "decoder_input_ids", "decoder_attention_mask")
    given = {name: value for name in names if (value := getattr(call, name)) is not None}
    if not is_encoder_decoder(model):
        if given:
            raise UnsupportedError(
                f"generate() was given {', '.join(given)}, and {type(model).__name__} has no encoder.",
                "Pass input_ids alone.",
            )
        return None
    inputs = {"input_ids": call.inputs, "inputs_embeds": call.inputs_embeds, "input_features": call.input_features}
    return read_source(model, inputs, call.attention_mask, call.encoder_outputs, pad)


def _forward(model: Any, config: GenerationConfig, call: Call, rows: Sequence[Row], pad: int) -> Forward:
    if call.past_key_values is not None and not config.use_cache:
        raise InputError("past_key_values were given with use_cache=False.", "Leave one of them out.")
    cache = call.past_key_values
    longest = max(len(row.ids) + row.limit for row in rows)
    if config.cache_implementation == "static" and cache is None:
        cache = StaticCache(max_cache_len=config.max_cache_len or longest)
    elif config.max_cache_len is not None:
        raise InputError(
            f"max_cache_len={config.max_cache_len} was given for a cache that grows.",
            "Add cache_implementation='static', or leave it out.",
        )
    extra = {name: True for name in ("output_attentions", "output_hidden_states") if getattr(config, name)}
    # Room for what is likely to come; the cache grows if more does.
    room = min(longest, max(len(row.ids) for row in rows) + _ROOM)
    return Forward(model, cache=cache, use_cache=bool(config.use_cache), capacity=room, pad=pad, extra=extra)


def _stop_strings(config: GenerationConfig, call: Call) -> StopStringCriteria | None:
    if config.stop_strings is None:
        return None
    if call.tokenizer is None:
        raise InputError("stop_strings were given without a tokenizer.", "Add tokenizer=tokenizer to the call.")
    return StopStringCriteria(call.tokenizer, config.stop_strings)


def _constraint(model: Any, config: GenerationConfig, call: Call, rows: Sequence[Row], ends: frozenset[int]) -> Any:
    chosen = {name: getattr(config, name) for name in ("json_schema", "regex", "grammar") if getattr(config, name)}
    if not chosen:
        return None
    from formers.generation.constraints import Constraint

    ((kind, value),) = chosen.items()
    if call.tokenizer is None:
        raise InputError(f"{kind} was given without a tokenizer.", "Add tokenizer=tokenizer to the call.")
    return Constraint(kind, value, call.tokenizer, sorted(ends), [row.limit for row in rows])


def _processors(
    config: GenerationConfig,
    prompts: Prompts,
    rows: Sequence[Row],
    call: Call,
    ends: frozenset[int],
    source: Source | None,
) -> Iterable[LogitsProcessor]:
    """The processors that settings ask for, in the reference's order."""
    width, device, eos = prompts.width, prompts.device, sorted(ends)
    beams = config.num_beams or 1
    if config.sequence_bias is not None:
        yield p.SequenceBiasLogitsProcessor(config.sequence_bias)
    if config.encoder_repetition_penalty != 1 and config.encoder_repetition_penalty is not None:
        encoder_ids = _encoder_ids("encoder_repetition_penalty", prompts, source, len(rows) * beams)
        yield p.EncoderRepetitionPenaltyLogitsProcessor(config.encoder_repetition_penalty, encoder_ids)
    if config.repetition_penalty != 1 and config.repetition_penalty is not None:
        yield p.RepetitionPenaltyLogitsProcessor(config.repetition_penalty)
    if config.presence_penalty or config.frequency_penalty:
        yield p.NewTokenPenaltyLogitsProcessor(width, config.presence_penalty or 0, config.frequency_penalty or 0)
    if config.no_repeat_ngram_size:
        yield p.NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size)
    if config.encoder_no_repeat_ngram_size:
        encoder_ids = _encoder_ids("encoder_no_repeat_ngram_size", prompts, source, len(rows) * beams)
        yield p.EncoderNoRepeatNGramLogitsProcessor(config.encoder_no_repeat_ngram_size, encoder_ids)
    if config.bad_words_ids is not None:
        yield p.NoBadWordsLogitsProcessor(config.bad_words_ids, eos)
    # In the columns of the padded ids a prompt of its own length begins later, and so do its limits.
    shift = [width - row.prompt if prompts.ragged else 0 for row in rows for _ in range(beams)]
    if config.min_new_tokens and eos:
        yield p.MinLengthLogitsProcessor(width + config.min_new_tokens, eos)
    elif config.min_length and eos:
        yield p.MinLengthLogitsProcessor(_by_row([config.min_length + s for s in shift]), eos, device)
    if call.prefix_allowed_tokens_fn is not None:
        yield p.PrefixConstrainedLogitsProcessor(call.prefix_allowed_tokens_fn, beams)
    if config.forced_bos_token_id is not None:
        yield p.ForcedBOSTokenLogitsProcessor(config.forced_bos_token_id)
    if config.forced_eos_token_id is not None:
        last = [width + row.limit for row in rows for _ in range(beams)]
        yield p.ForcedEOSTokenLogitsProcessor(_by_row(last), config.forced_eos_token_id, device)
    if config.remove_invalid_values:
        yield p.InfNanRemoveLogitsProcessor()
    if config.exponential_decay_length_penalty is not None:
        if not eos:
            raise InputError("exponential_decay_length_penalty needs an end of sequence.", "Give eos_token_id.")
        yield p.ExponentialDecayLengthPenalty(config.exponential_decay_length_penalty, eos, width)
    if config.suppress_tokens is not None:
        yield p.SuppressTokensLogitsProcessor(config.suppress_tokens)
    if config.begin_suppress_tokens is not None:
        forced = width == 1 and config.forced_bos_token_id is not None
        yield p.SuppressTokensAtBeginLogitsProcessor(config.begin_suppress_tokens, width + forced)


def _encoder_ids(name: str, prompts: Prompts, source: Source | None, rows: int) -> Tensor:
    """The ids (rows, S) that the encoder reads, those of the prompts where there is none."""
    ids = prompts.ids if source is None else source.ids
    if ids is None:
        raise InputError(f"{name} was given, and the encoder reads no token ids.", f"Leave out {name}.")
    return ids.repeat_interleave(rows // len(ids), 0)


def _by_row(limits: Sequence[int]) -> int | Tensor:
    """One number if all rows have the same."""
    return limits[0] if len(set(limits)) == 1 else torch.tensor(limits)


def _warpers(config: GenerationConfig, ends: frozenset[int]) -> Iterable[LogitsProcessor]:
    """What reshapes the distribution before a token is drawn; beams need a token beside the ends of sequence."""
    if config.do_sample:
        keep = 1 if config.num_beams == 1 else max(2, len(ends) + 1)
        if config.temperature not in (None, 1):
            yield w.TemperatureLogitsWarper(float(config.temperature or 1))
        if config.top_h is not None:
            yield w.TopHLogitsWarper(config.top_h)
        if config.top_k:
            yield w.TopKLogitsWarper(config.top_k, min_tokens_to_keep=keep)
        if config.top_p is not None and config.top_p < 1:
            yield w.TopPLogitsWarper(config.top_p, min_tokens_to_keep=keep)
        if config.min_p is not None:
            yield w.MinPLogitsWarper(config.min_p, min_tokens_to_keep=keep)
        if config.typical_p is not None and config.typical_p < 1:
            yield w.TypicalLogitsWarper(config.typical_p, min_tokens_to_keep=keep)
        if config.epsilon_cutoff:
            yield w.EpsilonLogitsWarper(config.epsilon_cutoff, min_tokens_to_keep=keep)
        if config.eta_cutoff:
            yield w.EtaLogitsWarper(config.eta_cutoff, min_tokens_to_keep=keep)
    if config.renormalize_logits:
        yield p.LogitNormalization()
