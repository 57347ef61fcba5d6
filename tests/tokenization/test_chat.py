"""Chat templates: the reference's text from realistic templates, masks of the assistant, tools, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from formers import AutoTokenizer, PreTrainedTokenizerFast
from formers.errors import ConfigError, InputError, UnsupportedError
from formers.tokenization import chat_sandbox
from tests.tokenization.chats import CHAT, CHATML, GENERATION, LLAMA3, MISTRAL, RAG, SHORT, TOOL_CHAT, Tools, weather


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreTrainedTokenizerFast, Any]:
    """The same byte-level tokenizer in both libraries, which puts <s> before texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"]
    engine = Tokenizer(models.BPE({token: index for index, token in enumerate([*special, *alphabet])}, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(special)
    engine.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    engine.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**names, "tokenizer_class": "PreTrainedTokenizerFast"}))
    return AutoTokenizer.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)


def same(pair: tuple[PreTrainedTokenizerFast, Any], *arguments: Any, **options: Any) -> Any:
    ours, theirs = (tokenizer.apply_chat_template(*arguments, **options) for tokenizer in pair)
    if isinstance(ours, (str, list)):
        assert ours == theirs
    else:
        assert {k: _lists(v) for k, v in ours.items()} == {k: _lists(v) for k, v in theirs.items()}
    return ours


def _lists(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


TEXTS = [
    (CHATML, CHAT, {}),
    (CHATML, SHORT, {"add_generation_prompt": True}),
    (MISTRAL, CHAT, {}),
    (LLAMA3, CHAT, {"add_generation_prompt": True}),
    (LLAMA3, TOOL_CHAT, {"tools": [weather, Tools().search], "date_string": "1 Jan 2026"}),
    (LLAMA3, TOOL_CHAT, {"tools": [{"type": "function", "function": {"name": "x<y", "ü": [1, None, True]}}]}),
    (RAG, CHAT, {"documents": [{"title": "a", "text": "b & c"}, {"title": "d", "text": "e"}], "extra": 3}),
    (GENERATION, CHAT, {}),
]


@pytest.mark.parametrize(("template", "chat", "options"), TEXTS)
def test_texts_are_the_references(pair, template: str, chat: list, options: dict) -> None:
    text = same(pair, chat, chat_template=template, tokenize=False, **options)
    assert len(text) > 20


def test_ids_have_one_bos_token(pair) -> None:
    batch = same(pair, CHAT, chat_template=MISTRAL)
    assert batch["input_ids"].count(pair[0].bos_token_id) == 1
    assert same(pair, CHAT, chat_template=MISTRAL, return_dict=False) == batch["input_ids"]


@pytest.mark.parametrize(
    "options",
    [
        {"padding": True},
        {"padding": True, "return_tensors": "pt"},
        {"padding": "max_length", "max_length": 40, "truncation": True, "return_tensors": "np"},
        {"padding": True, "tokenizer_kwargs": {"padding_side": "left", "return_token_type_ids": True}},
        {"return_assistant_tokens_mask": True},
        {"return_assistant_tokens_mask": True, "padding": True, "return_tensors": "pt"},
        {"return_assistant_tokens_mask": True, "max_length": 60, "truncation": True},
    ],
)
def test_batches(pair, options: dict) -> None:
    same(pair, [CHAT, SHORT, CHAT[:3]], chat_template=GENERATION, **options)


def test_masks_of_one_conversation(pair) -> None:
    batch = same(pair, CHAT, chat_template=GENERATION, return_assistant_tokens_mask=True)
    kept = [index for index, flag in zip(batch["input_ids"], batch["assistant_masks"], strict=True) if flag]
    assert pair[0].decode(kept) == "A model & more.<|im_end|>"
    same(pair, CHAT, chat_template=GENERATION, return_assistant_tokens_mask=True, return_tensors="pt")


def test_masks_inside_of_macros(pair) -> None:
    """The reference counts characters from where the macro began; here they are where they stand."""
    macro = "{% macro say(m) %}{% generation %}{{ m.content }}{% endgeneration %}{% endmacro %}"
    template = (
        macro + "{% for m in messages %}[{{ m.role }}]{{ say(m) if m.role == 'assistant' else m.content }}{% endfor %}"
    )
    batch = pair[0].apply_chat_template(CHAT, chat_template=template, return_assistant_tokens_mask=True)
    kept = [index for index, flag in zip(batch["input_ids"], batch["assistant_masks"], strict=True) if flag]
    assert pair[0].decode(kept) == "A model & more."


@pytest.mark.parametrize("chat", [CHAT[:3], [*CHAT, {"role": "assistant", "content": "Open end   "}]])
@pytest.mark.parametrize("template", [CHATML, LLAMA3])
def test_a_last_message_to_continue(pair, chat: list, template: str) -> None:
    text = same(pair, chat, chat_template=template, continue_final_message=True, tokenize=False)
    assert text.endswith(chat[-1]["content"].rstrip() if template is LLAMA3 else chat[-1]["content"])
    blocks = [*chat[:2], {"role": "assistant", "content": [{"type": "text", "text": "Open"}]}]
    if template is LLAMA3:
        same(pair, blocks, chat_template=template, continue_final_message="content", tokenize=False)


def test_what_models_thought_is_there_under_every_name(pair) -> None:
    template = "{% for m in messages %}{{ m.reasoning_content }}|{{ m.thinking }}|{{ m.content }}{% endfor %}"
    for key in ("reasoning", "thinking", "reasoning_content"):
        chat = [{"role": "assistant", key: "Hm", "content": "so"}]
        assert same(pair, chat, chat_template=template, tokenize=False) == "Hm|Hm|so"
        same(pair, chat, chat_template=template, tokenize=False, continue_final_message="thinking")


def test_messages_one_by_one(pair) -> None:
    for tokenizer in pair:
        tokenizer.chat_template = CHATML
    try:
        for history in (None, [], CHAT[:1], CHAT[:3]):
            ours, theirs = (tok.encode_message_with_chat_template(SHORT[0], history) for tok in pair)
            assert ours == theirs
        with pytest.raises(InputError, match="no generation prompt"):
            pair[0].encode_message_with_chat_template(SHORT[0], add_generation_prompt=True)
    finally:
        for tokenizer in pair:
            tokenizer.chat_template = None


def test_templates_by_name(pair) -> None:
    for tokenizer in pair:
        tokenizer.chat_template = {"default": CHATML, "tool_use": "with tools", "other": "{{ messages[0].content }}"}
    try:
        for options in ({}, {"tools": [weather]}, {"chat_template": "other"}, {"chat_template": "text"}):
            same(pair, SHORT, tokenize=False, **options)
            assert pair[0].get_chat_template(**options) == pair[1].get_chat_template(**options)
        pair[0].chat_template = {"a": "x"}
        with pytest.raises(InputError, match="none named 'default': a"):
            pair[0].apply_chat_template(SHORT)
    finally:
        for tokenizer in pair:
            tokenizer.chat_template = None


@pytest.mark.parametrize("template", [CHATML, {"default": CHATML, "tool_use": "tools"}])
def test_templates_are_saved_and_loaded(pair, template: Any, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pair[0].name_or_path, chat_template=template)
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == CHATML
    for library in (AutoTokenizer, transformers.AutoTokenizer):
        assert library.from_pretrained(tmp_path).chat_template == template


def test_a_list_of_templates_in_the_configuration(pair, tmp_path: Path) -> None:
    pair[0].save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": "default", "template": CHATML}, {"name": "rag", "template": RAG}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == {"default": CHATML, "rag": RAG}


def test_schemas_are_the_references(pair) -> None:
    from transformers.utils import get_json_schema

    from formers.tokenization.chat_tools import schema_of

    for tool in (weather, Tools().search):
        assert schema_of(tool) == get_json_schema(tool)


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60)
@given(
    chat=st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": words}), min_size=1)
)
def test_any_conversation_has_the_references_text(pair, chat: list) -> None:
    for template in (CHATML, LLAMA3, GENERATION):
        same(pair, chat, chat_template=template, tokenize=False)


# -- errors ------------------------------------------------------------------------------------------------------


def no_hint(place) -> None:  # type: ignore[no-untyped-def]
    """A tool.

    Args:
        place: Where
    """


def no_docs(place: str) -> None:
    """A tool."""


def odd_hint(place: Path) -> None:
    """A tool.

    Args:
        place: Where
    """


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: t.apply_chat_template(SHORT), "no chat template. Pass one"),
        (lambda t: t.apply_chat_template([], chat_template="x"), "empty. Pass at least one"),
        (lambda t: t.apply_chat_template([[]], chat_template="x"), "empty. Pass at least one"),
        (lambda t: t.apply_chat_template("Hello", chat_template="x"), "list of messages, not a str"),
        (lambda t: t.apply_chat_template(["Hello"], chat_template="x"), "dictionary, not 'Hello'"),
        (lambda t: t.apply_chat_template(SHORT, chat_template="x", documents=["d"]), "dictionary, not 'd'"),
        (
            lambda t: t.apply_chat_template(
                SHORT, chat_template="x", return_assistant_tokens_mask=True, tokenize=False
            ),
            "Use tokenize=True",
        ),
        (
            lambda t: t.apply_chat_template(
                SHORT, chat_template="x", continue_final_message=True, add_generation_prompt=True
            ),
            "Choose continue_final_message",
        ),
        (lambda t: t.apply_chat_template(SHORT, chat_template="x", continue_final_message=True), "not read 'content'"),
        (
            lambda t: t.apply_chat_template(
                SHORT, chat_template="{{ messages[0].content[:3] }}", continue_final_message=True
            ),
            "drops the end of the last message",
        ),
        (lambda t: t.apply_chat_template(SHORT, chat_template="x", continue_final_message="thinking"), "no 'thinking'"),
        (lambda t: t.apply_chat_template([CHAT[0]] * 2, chat_template=MISTRAL), "refuses the conversation: After the"),
        (
            lambda t: t.apply_chat_template(SHORT, chat_template="{{ messages[7].content }}"),
            "fails on this conversation",
        ),
        (lambda t: t.apply_chat_template(SHORT, chat_template="x", tools=[3]), "not a int. Pass the function itself"),
        (
            lambda t: t.apply_chat_template(SHORT, chat_template="x", tools=[no_hint]),
            "place of the tool no_hint has no",
        ),
        (lambda t: t.apply_chat_template(SHORT, chat_template="x", tools=[no_docs]), "describe its argument place"),
        (lambda t: t.apply_chat_template(SHORT, chat_template="x", tools=[odd_hint]), "Path'> has no JSON schema"),
        (lambda t: t.apply_chat_template(SHORT, chat_template="x", tools=[lambda: 0]), "has no docstring"),
    ],
)
def test_errors(pair, call: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call(pair[0])


def test_sanitizing_is_refused(pair) -> None:
    with pytest.raises(UnsupportedError, match=r"sanitize_control_tokens is not supported. Remove"):
        pair[0].apply_chat_template(SHORT, chat_template="x", sanitize_control_tokens=True)


GROW = "{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
HOSTILE = {
    "attributes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "attributes by filter": "{{ (''|attr('__class__')).x }}",
    "globals of functions": "{{ raise_exception.__globals__.os.system('id') }}",
    "globals of objects": "{{ cycler.__init__.__globals__.os.system('id') }}",
    "loop": "{{ loop.__class__ }}{% for i in [1] %}{{ loop.__init__.__globals__.x }}{% endfor %}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "format_map": "{{ '{a.__class__.__mro__}'.format_map({'a': 1}) }}",
    "changes": "{{ messages.append(1) }}",
    "more changes": "{{ messages[0].update({'a': 1}) }}",
    "namespace": "{% set n = namespace(__class__=1) %}{{ n }}",
    "namespace later": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "range": "{% for i in range(10000000) %}{% endfor %}",
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "recursive loop": "{% for a in range(9) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "doubling calls": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "output": "{% for a in range(99999) %}{{ messages[0].content * 1000 }}{% endfor %}",
    "data": "{% for a in range(99999) %}" + "x" * 10000 + "{% endfor %}",
    "data in a variable": "{% set x %}{% for a in range(99999) %}" + "x" * 10000 + "{% endfor %}{% endset %}",
    "repetition": "{{ 'a' * 10**10 }}",
    "repeated lists": "{{ [1] * 10**10 }}",
    "power": "{{ 9 ** 99999 }}",
    "product": "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "sum": "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "concatenation": "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "lists of lists": "{% set n = namespace(x=[1]) %}" + GROW + "{{ n.x }}",
    "json": "{% set n = namespace(x=[1]) %}" + GROW + "{{ n.x|tojson }}",
    "string": "{% set n = namespace(x=[1]) %}" + GROW + "{{ n.x|string }}",
    "center": "{{ 'a'|center(10000000000) }}",
    "ljust": "{{ 'a'.ljust(10000000000) }}",
    "zfill": "{{ 'a'.zfill(width) }}",
    "tabs": "{{ '\\t'.expandtabs(10000000000) }}",
    "percent": "{{ '%10000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (10000000000, 1) }}",
    "format filter": "{{ '%10000000000d'|format(1) }}",
    "format width": "{{ '{:>10000000000}'.format(1) }}",
    "format computed": "{{ '{:>{}}'.format(1, 10000000000) }}",
    "replace": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "replace filter": "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
    "join": "{{ ('b' * 100000).join(['a'] * 100000) }}",
    "join filter": "{{ (['a'] * 100000)|join('b' * 100000) }}",
    "indent": "{{ ('\\n' * 100000)|indent(99999) }}",
    "date": "{{ strftime_now('%1000000000d') }}",
    "lorem": "{{ lipsum(n=100000) }}",
    "nesting": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "syntax": "{% for %}",
    "unknown filter": "{{ 'a'|nothing }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import '/etc/passwd' as x %}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_end_in_an_error(pair, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_sandbox, "MAX_STEPS", 20_000)
    with pytest.raises((ConfigError, InputError), match="chat template"):
        pair[0].apply_chat_template(SHORT, chat_template=HOSTILE[name], tokenize=False, width=10**10)


def test_time_is_bounded(pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_sandbox, "MAX_SECONDS", 0.0)
    with pytest.raises(ConfigError, match=r"takes longer than 0 seconds. It is broken or hostile. Pass another"):
        pair[0].apply_chat_template(SHORT, chat_template="{% for i in range(9999) %}{% endfor %}", tokenize=False)


def test_templates_meet_no_live_objects(pair) -> None:
    class Live:
        def burn(self) -> str:
            raise AssertionError

    chat = [{"role": "user", "content": [{"type": "image", "image": Live()}]}]
    template = "{{ messages[0].content[0].image }}{{ messages[0].content[0].image.burn is defined }}"
    assert same(pair, chat, chat_template=template, tokenize=False) == "<Live>False"


def test_a_syntax_error_names_its_line(pair) -> None:
    with pytest.raises(ConfigError, match="Line 2 of the chat template is wrong: "):
        pair[0].apply_chat_template(SHORT, chat_template="a\n{% if %}", tokenize=False)
