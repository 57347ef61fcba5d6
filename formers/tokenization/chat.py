"""Conversations as texts and ids, by the chat templates of models."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from formers.errors import InputError, MissingDependencyError
from formers.tokenization.chat_tools import schema_of

if TYPE_CHECKING:
    from formers.tokenization.batch import BatchEncoding
    from formers.tokenization.chat_sandbox import Rendered

logger = logging.getLogger(__name__)

# Under which keys messages hold what the model thought; templates read one of them.
_REASONING = ("reasoning_content", "thinking", "reasoning")
_END = "CONTINUE_FINAL_MESSAGE_TAG "
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def choose_template(own: Any, template: str | None, tools: Any) -> str:
    """The template to use: `template` (a text, or the name of one of several), else the tokenizer's own."""
    if isinstance(own, Mapping):
        if template is not None:
            return str(own.get(template, template))
        name = "tool_use" if tools is not None and "tool_use" in own else "default"
        if name not in own:
            raise InputError(
                f"This tokenizer has several chat templates and none named 'default': {', '.join(sorted(own))}.",
                "Pass the name of one as `chat_template`.",
            )
        return str(own[name])
    if template is None and own is None:
        raise InputError(
            "This tokenizer has no chat template.",
            "Pass one as `chat_template`, or set `tokenizer.chat_template`; base models have none.",
        )
    return str(own if template is None else template)


def render_all(
    template: str,
    conversations: Sequence[Any],
    special_tokens: Mapping[str, str],
    *,
    tools: Sequence[Any] | None,
    documents: Sequence[Any] | None,
    add_generation_prompt: bool,
    continue_final_message: bool | str,
    track: bool,
    variables: Mapping[str, Any],
) -> list[Rendered]:
    """The text of every conversation."""
    try:
        from formers.tokenization.chat_sandbox import render
    except ImportError as error:
        raise MissingDependencyError(
            "Chat templates need the package 'jinja2'.", "Install it with: pip install jinja2"
        ) from error
    if track and not _GENERATION.search(template):
        logger.warning("The chat template marks nothing with {%% generation %%}: the mask of the assistant is empty.")
    for document in documents or ():
        if not isinstance(document, Mapping):
            raise InputError(f"A document is a dictionary, not {document!r}.", "Give it a 'title' and a 'text'.")
    shared = {
        **_plain(special_tokens),
        "tools": None if tools is None else _plain([schema_of(tool) for tool in tools]),
        "documents": _plain(documents),
        "add_generation_prompt": add_generation_prompt,
        **_plain(variables),
    }
    rendered = []
    for conversation in conversations:
        messages = _messages(conversation)
        end = _open_end(messages, continue_final_message, template) if continue_final_message else None
        result = render(template, {"messages": messages, **shared}, track)
        if end is not None:
            result.text = _cut(result.text, end)
        rendered.append(result)
    return rendered


def split_batch(conversation: Any) -> tuple[list[Any], bool]:
    """The conversations, and whether there were several."""
    if isinstance(conversation, (str, bytes, Mapping)) or not hasattr(conversation, "__len__"):
        conversation = getattr(conversation, "messages", conversation)
    if isinstance(conversation, (str, bytes, Mapping)) or not hasattr(conversation, "__len__"):
        raise InputError(
            f"A conversation is a list of messages, not a {type(conversation).__name__}.",
            "Pass [{'role': 'user', 'content': '…'}], or a list of such lists.",
        )
    if not len(conversation):
        raise InputError("The conversation is empty.", "Pass at least one message.")
    first = conversation[0]
    several = isinstance(first, (list, tuple)) or hasattr(first, "messages")
    return (list(conversation) if several else [conversation]), several


def check_options(
    makes_batch: bool, return_mask: bool, add_generation_prompt: bool, continue_final_message: bool | str
) -> None:
    """InputError for options of `apply_chat_template` that exclude each other."""
    if return_mask and not makes_batch:
        raise InputError("The mask of the assistant comes with the ids.", "Use tokenize=True and return_dict=True.")
    if continue_final_message and (add_generation_prompt or return_mask):
        raise InputError(
            "A message that goes on excludes add_generation_prompt and return_assistant_tokens_mask.",
            "Choose continue_final_message or the others.",
        )


def encode_with_masks(
    tokenizer: Callable[..., BatchEncoding], rendered: Sequence[Rendered], several: bool, settings: Mapping[str, Any]
) -> BatchEncoding:
    """The tokenized conversations, or the one, with "assistant_masks" in the form of their ids."""
    texts: Any = [item.text for item in rendered] if several else rendered[0].text
    kind, keep_offsets = settings["return_tensors"], settings.get("return_offsets_mapping", False)
    batch = tokenizer(texts, **{**settings, "return_offsets_mapping": True})
    offsets = batch["offset_mapping"] if keep_offsets else batch.pop("offset_mapping")
    rows = [offsets] if not several and kind is None else offsets
    masks = [_assistant_mask(item.spans, row) for item, row in zip(rendered, rows, strict=True)]
    batch["assistant_masks"] = masks if several or kind is not None else masks[0]
    return batch if kind is None else batch.convert_to_tensors(kind)


def _assistant_mask(spans: Sequence[tuple[int, int]], offsets: Sequence[Sequence[int]]) -> list[int]:
    """1 for tokens that lie in one of the spans of characters."""
    return [int(any(a < end and b > start for start, end in spans)) if b > a else 0 for a, b in offsets]


def encode_message(
    tokenize: Callable[[list[Any]], list[int]], message: Any, history: Sequence[Any] | None
) -> list[int]:
    """The ids that a message adds to a conversation."""
    if not history:
        return tokenize([message])
    whole, before = tokenize([*history, message]), tokenize(list(history))
    common = next((i for i, (a, b) in enumerate(zip(whole, before, strict=False)) if a != b), None)
    return whole[min(len(whole), len(before)) if common is None else common :]


def _messages(conversation: Any) -> list[dict[str, Any]]:
    """Plain copies of messages, without keys that are None."""
    messages = []
    for message in _plain(list(getattr(conversation, "messages", conversation))):
        if not isinstance(message, dict):
            raise InputError(
                f"A message is a dictionary, not {message!r}.", "Pass {'role': 'user', 'content': '…'}, for example."
            )
        message = {key: value for key, value in message.items() if value is not None}
        thought = next((message[key] for key in _REASONING if key in message), None)
        if thought is not None:
            message = {"thinking": thought, **message, "reasoning_content": thought}
        messages.append(message)
    if not messages:
        raise InputError("A conversation is empty.", "Pass at least one message.")
    return messages


def _open_end(messages: list[dict[str, Any]], field: bool | str, template: str) -> str:
    """Mark the end of the last message, to cut the text there; returns what the message says."""
    name = field if isinstance(field, str) else "content"
    last = messages[-1]
    said = last.get(name)
    if said is None:
        raise InputError(f"The last message has no {name!r} to continue.", "Add it, or leave out the option.")
    names = [key for key in _REASONING if last.get(key) == said] if name in _REASONING else [name]
    if not any(key in template for key in names):
        raise InputError(f"The chat template does not read {name!r}.", "Continue another key of the message.")
    if isinstance(said, str):
        last.update(dict.fromkeys(names, said + _END))
        return said
    for block in reversed(said if isinstance(said, (list, tuple)) else ()):
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            text: str = block["text"]
            block["text"] = text + _END
            return text
    raise InputError("The last message holds no text to continue.", "End it with a block of text.")


def _cut(text: str, said: str) -> str:
    """The text up to the end of the last message."""
    tag = _END.strip()
    if said.strip() not in text or tag not in text:
        raise InputError(
            "The chat template drops the end of the last message, which therefore cannot be continued.",
            "Use add_generation_prompt, or another template.",
        )
    at = text.rindex(tag)
    return text[:at] if text[at : at + len(_END)] == _END else text[:at].rstrip()


def _plain(value: Any) -> Any:
    """A copy of JSON's types alone; anything else becomes its type's name: templates must not meet live objects."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind.__str__(value) if kind is str else kind(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if callable(getattr(value, "model_dump", None)):  # pydantic
        return _plain(value.model_dump())
    if type(value).__module__ == "numpy" and callable(getattr(value, "item", None)) and not getattr(value, "ndim", 1):
        return _plain(value.item())
    return f"<{type(value).__name__}>"
