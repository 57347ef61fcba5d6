"""`generate` and `stream`: one call from prompts to tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from formers.errors import InputError, UnsupportedError
from formers.generation.beams import Beams
from formers.generation.config import GenerationConfig
from formers.generation.planning import Call, plan
from formers.generation.processing import LogitsProcessor
from formers.generation.results import output, sequences
from formers.generation.sources import is_encoder_decoder
from formers.generation.speculation import Speculation
from formers.generation.steps import Plan, Search, Step, TokenByToken, run
from formers.generation.streamers import BaseStreamer, TextPieces

logger = logging.getLogger("formers")

# Arguments of the reference that no setting stands for, and what to do instead.
_REFUSED = {
    "position_ids": "Leave it out: positions are counted from the attention mask.",
    "token_type_ids": "Leave it out: call the tokenizer with return_token_type_ids=False.",
    "negative_prompt_ids": "Mix the scores in a logits_processor of your own.",
    "negative_prompt_attention_mask": "Mix the scores in a logits_processor of your own.",
    "custom_generate": "Code from models' folders is never run: wrap formers.generation.stream.",
    "assistant_tokenizer": "Use an assistant with the model's own tokenizer.",
    "synced_gpus": "Leave it out: call generate on one process at a time.",
    "use_model_defaults": "Pass generation_config=GenerationConfig(...) with the settings you want.",
}
# Asking for what happens anyway.
_NOTHING = (None, False)


def generate(
    model: Any,
    inputs: Any = None,
    generation_config: GenerationConfig | Mapping[str, Any] | None = None,
    logits_processor: Iterable[LogitsProcessor] | None = None,
    stopping_criteria: Iterable[Callable[..., Any]] | None = None,
    prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None = None,
    synced_gpus: bool | None = None,
    assistant_model: Any = None,
    streamer: Any = None,
    *,
    input_ids: Any = None,
    attention_mask: Tensor | None = None,
    past_key_values: Any = None,
    tokenizer: Any = None,
    input_features: Tensor | None = None,
    inputs_embeds: Tensor | None = None,
    encoder_outputs: Any = None,
    decoder_input_ids: Any = None,
    decoder_attention_mask: Tensor | None = None,
    **settings: Any,
) -> Any:
    """Continue prompts: a tensor (B, S + new) of ids, or with `return_dict_in_generate=True` an output object.

    `inputs` (or `input_ids`) are ids (B, S), padded on either side, or lists of ids. The settings are the fields of
    `GenerationConfig`; a name that is none of them is an error. Ctrl-C and `max_time` end it with what there is.
    An exception is raised here and where the streamer's text is read.

    An encoder–decoder reads them with its encoder, or `inputs_embeds` (B, S, W), `input_features` (B, bins, frames), or
    what the encoder has made of them, `encoder_outputs`. It continues `decoder_input_ids` (B, T), by default the
    decoder's start token alone; lengths count the decoder's tokens.
    """
    call = Call(
        input_ids,
        attention_mask,
        logits_processor,
        stopping_criteria,
        prefix_allowed_tokens_fn,
        assistant_model,
        tokenizer,
        past_key_values,
        streamer=streamer,
        input_features=input_features,
        inputs_embeds=inputs_embeds,
        encoder_outputs=encoder_outputs,
        decoder_input_ids=decoder_input_ids,
        decoder_attention_mask=decoder_attention_mask,
    )
    settings["synced_gpus"] = synced_gpus
    made, search, steps = _finished(model, _call(model, inputs, call), generation_config, settings)
    if not made.config.return_dict_in_generate:
        return sequences(made, search.answers())
    return search.output(steps) if isinstance(search, Beams) else output(made, steps)


def continuations(
    model: Any, call: Call, passed: GenerationConfig | Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> list[list[list[int]]]:
    """The new tokens of every text of every prompt, without any padding. What pipelines and servers call.

    Ctrl-C is raised: there may be other prompts, which must not follow.
    """
    made, search, _ = _finished(model, call, passed, settings, whole=True)
    found = search.answers()
    each = len(found) // len(made.prompts.rows)
    return [found[first : first + each] for first in range(0, len(found), each)]


def stepwise(
    model: Any, call: Call, passed: GenerationConfig | Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> Iterator[Step]:
    """The steps of a call, each as soon as it is there. Everything is checked before the first."""
    made = plan(model, call, passed, _settings(settings))
    if made.config.num_beams != 1:
        raise InputError("Steps were asked of beams.", "Use num_beams=1: beams are ready at the end only.")
    return run(_search(model, made, call), made)


def _finished(
    model: Any,
    call: Call,
    passed: GenerationConfig | Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    whole: bool = False,
) -> tuple[Plan, Search, list[Step]]:
    """A call carried out; its errors reach the streamer's reader too. `whole`: or not, if it is interrupted."""
    streamer = call.streamer
    try:
        made = plan(model, call, passed, _settings(settings))
        search = _search(model, made, call)
        if streamer is not None and made.config.num_beams != 1:
            raise InputError("A streamer was given with beams.", "Use num_beams=1: beams are ready at the end only.")
        return made, search, _watched(search, made, streamer, whole)
    except BaseException as error:
        if streamer is not None:
            (streamer.fail(error) if hasattr(streamer, "fail") else streamer.end())
        raise


def stream(
    model: Any,
    inputs: Any = None,
    generation_config: GenerationConfig | Mapping[str, Any] | None = None,
    *,
    input_ids: Any = None,
    attention_mask: Tensor | None = None,
    logits_processor: Iterable[LogitsProcessor] | None = None,
    stopping_criteria: Iterable[Callable[..., Any]] | None = None,
    prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None = None,
    assistant_model: Any = None,
    past_key_values: Any = None,
    tokenizer: Any = None,
    input_features: Tensor | None = None,
    inputs_embeds: Tensor | None = None,
    encoder_outputs: Any = None,
    decoder_input_ids: Any = None,
    decoder_attention_mask: Tensor | None = None,
    **settings: Any,
) -> Iterator[Step]:
    """The steps of a generation, each as soon as it is there; arguments as `generate`. Stop iterating to end it."""
    call = Call(
        input_ids,
        attention_mask,
        logits_processor,
        stopping_criteria,
        prefix_allowed_tokens_fn,
        assistant_model,
        tokenizer,
        past_key_values,
        input_features=input_features,
        inputs_embeds=inputs_embeds,
        encoder_outputs=encoder_outputs,
        decoder_input_ids=decoder_input_ids,
        decoder_attention_mask=decoder_attention_mask,
    )
    return stepwise(model, _call(model, inputs, call), generation_config, settings)


def stream_text(
    model: Any,
    tokenizer: Any,
    prompt: str | Sequence[int] | Tensor,
    generation_config: GenerationConfig | Mapping[str, Any] | None = None,
    *,
    skip_special_tokens: bool = True,
    **settings: Any,
) -> Iterator[str]:
    """The text after one prompt in pieces, each as soon as its characters are certain; settings as `generate`."""
    ids = tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
    pieces = TextPieces(tokenizer, skip_special_tokens=skip_special_tokens)
    for step in stream(model, ids, generation_config, tokenizer=tokenizer, **settings):
        if set(step.rows) - {0}:
            raise InputError("More than one text is streamed.", "Give one prompt and no num_return_sequences.")
        piece = pieces.add(step.tokens)
        if piece:
            yield piece
    rest = pieces.add([], last=True)
    if rest:
        yield rest


def _call(model: Any, inputs: Any, call: Call) -> Call:
    """A call with `inputs` under the name that the model gives them."""
    for given in (inputs, call.inputs):
        if isinstance(given, Mapping) or hasattr(given, "keys"):
            raise InputError(
                f"The prompt is a {type(given).__name__}.", "Unpack what the tokenizer returned: generate(**inputs)."
            )
    if getattr(model, "main_input_name", "input_ids") == "input_features":
        # Then ids can only be the decoder's.
        features = _one_of(inputs=inputs, input_features=call.input_features)
        ids = _one_of(input_ids=call.inputs, decoder_input_ids=call.decoder_input_ids)
        return replace(call, inputs=None, input_features=features, decoder_input_ids=ids)
    ids = _one_of(inputs=inputs, input_ids=call.inputs)
    if ids is None and not is_encoder_decoder(model) and call.inputs_embeds is None:
        raise InputError("No prompt was given.", "Pass input_ids: what the tokenizer makes of a text.")
    return replace(call, inputs=ids)


def _one_of(**two: Any) -> Any:
    given = [value for value in two.values() if value is not None]
    if len(given) > 1:
        raise InputError(f"Both {' and '.join(two)} were given.", "Give one of them.")
    return given[0] if given else None


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among the keywords of a call, without those of the reference that ask for nothing."""
    for name, remedy in _REFUSED.items():
        if name in given and not any(given[name] is nothing for nothing in _NOTHING):
            raise UnsupportedError(f"generate() was given {name}.", remedy)
    return {name: value for name, value in given.items() if name not in _REFUSED}


def _search(model: Any, made: Plan, call: Call) -> Search:
    for one in (model, call.assistant_model):
        if not getattr(one, "training", True) and hasattr(one, "for_inference"):
            one.for_inference()
    if made.config.num_beams != 1:
        if call.assistant_model is not None or made.config.prompt_lookup_num_tokens is not None:
            raise InputError("Speculation was asked for with beams.", "Use num_beams=1, or leave speculation out.")
        return Beams(made)
    if call.assistant_model is not None or made.config.prompt_lookup_num_tokens is not None:
        return Speculation(made, call.assistant_model)
    return TokenByToken(made)


def _shown(step: Step, made: Plan) -> list[int]:
    """The tokens of a step: all of a single text, otherwise one a row, padding where the row has ended."""
    if len(made.rows) == 1:
        return step.tokens
    shown = dict(zip(step.rows, step.tokens, strict=True))
    return [shown.get(row.index, made.pad) for row in made.rows]


def _watched(search: Search, made: Plan, streamer: BaseStreamer | None, whole: bool) -> list[Step]:
    """All steps, shown to the streamer; an interrupt ends them early, or is raised where they must be whole."""
    kept: list[Step] = []
    # Steps are kept for what is returned of them.
    keep = bool(made.config.return_dict_in_generate)
    try:
        if streamer is not None:
            streamer.put(made.prompts.ids.cpu())
        with made.mode():
            while not search.done:
                step = search.advance()
                if keep:
                    kept.append(step)
                if streamer is not None:
                    with torch.inference_mode(False):
                        streamer.put(torch.tensor(_shown(step, made)))
    except KeyboardInterrupt:
        if whole:
            raise
        logger.warning("Generation was interrupted: what there was is returned.")
    if streamer is not None:
        streamer.end()
    return kept
