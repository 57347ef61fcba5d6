"""text2text-generation, summarization and translation: version 4's answers, and what batches and options do."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import formers
from formers.errors import InputError, ModelNotFoundError
from formers.pipelines.pt_utils import KeyDataset
from tests.pipelines.text2text import CALLS, LONG, PAIR, RECORDED, SHORT, TASKS, TEXTS, ask_v4, made, v4_python


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def pipe(folders: dict[str, str]) -> Callable[..., Any]:
    """pipe(task, model): a pipeline, made once."""
    kept: dict[tuple[str, str], Any] = {}

    def make(task: str, model: str) -> Any:
        if (task, model) not in kept:
            kept[task, model] = formers.pipeline(task, model=folders[model], device="cpu")
        return kept[task, model]

    return make


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return {"ids": value.tolist()}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", range(len(CALLS)), ids=lambda place: f"{place}-{CALLS[place][0]}-{CALLS[place][1]}")
def test_calls_equal_version_4(pipe: Callable[..., Any], place: int) -> None:
    task, model, inputs, options = CALLS[place]
    assert plain(pipe(task, model)(inputs, **options)) == json.loads(RECORDED.read_text(encoding="utf-8"))[place]


@pytest.mark.v4
def test_what_is_recorded_is_what_version_4_says(folders: dict[str, str]) -> None:
    python = v4_python()
    if python is None:
        pytest.skip("there is no environment with version 4 of the reference (FORMERS_V4_PYTHON or .venv-v4)")
    assert ask_v4(python, folders) == json.loads(RECORDED.read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("task", "model", "options"),
    [
        ("text2text-generation", "t5", SHORT),
        ("summarization", "bart", {}),
        ("translation", "mbart", {**PAIR, **SHORT}),
        ("translation_en_to_fr", "t5", {"do_sample": True, "num_beams": 1, "seed": 3, "max_new_tokens": 9}),
    ],
)
def test_lists_and_streams_answer_as_texts_alone(
    pipe: Callable[..., Any], task: str, model: str, options: dict[str, Any]
) -> None:
    mine, texts = pipe(task, model), [text for text in [*TEXTS, "cat", *TEXTS[:2]] if text]
    alone = [mine(text, **options) for text in texts]
    assert all(len(answers) == 1 for answers in alone)
    flat = [answers[0] for answers in alone]
    assert mine(texts, **options) == flat
    assert mine(tuple(texts), **options) == flat
    assert mine(texts, batch_size=2, **options) == flat
    assert list(mine((text for text in texts), **options)) == alone
    assert list(mine(KeyDataset([{"text": text} for text in texts], "text"), **options)) == alone
    assert list(mine.stream(texts, **options)) == alone
    assert mine([], **options) == []


def test_texts_of_a_list_share_steps(pipe: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    mine, calls = pipe("text2text-generation", "t5"), []
    forward = type(mine.model).forward

    def counted(self: Any, *args: Any, **named: Any) -> Any:
        calls.append(1)
        return forward(self, *args, **named)

    monkeypatch.setattr(type(mine.model), "forward", counted)
    mine(TEXTS * 3, **SHORT)
    assert len(calls) == SHORT["max_new_tokens"]


def test_ids_beside_the_text(pipe: Callable[..., Any]) -> None:
    mine = pipe("text2text-generation", "t5")
    (both,) = mine(TEXTS[1], return_tensors=True, return_text=True, **SHORT)
    (text,) = mine(TEXTS[1], return_type=1, **SHORT)
    (ids,) = mine(TEXTS[1], return_type=0, **SHORT)
    assert both["generated_text"] == text["generated_text"]
    assert torch.equal(both["generated_token_ids"], ids["generated_token_ids"])


def test_max_length_counts_as_said(pipe: Callable[..., Any]) -> None:
    """Of a call and of a task, where version 4.57 takes 256 new tokens all the same."""
    mine = pipe("summarization", "t5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_task = mine(TEXTS[0])
        assert by_task == mine(TEXTS[0], max_new_tokens=TASKS["summarization"]["max_length"] - 1)
        assert mine(TEXTS[0], max_length=9) == mine(TEXTS[0], max_new_tokens=8)
        assert mine(TEXTS[0], generation_config=formers.GenerationConfig(max_new_tokens=3, num_beams=2))
    short = formers.pipeline("summarization", model=mine.model, tokenizer=mine.tokenizer, max_new_tokens=4)
    assert short(TEXTS[0]) == mine(TEXTS[0], max_new_tokens=4)


def test_settings_in_their_order(pipe: Callable[..., Any]) -> None:
    """The call over the task, over the model, over the pipeline."""
    mine, defaults = pipe("summarization", "t5"), pipe("summarization", "t5").defaults
    settled = mine.configuration(defaults)
    assert (settled.max_length, settled.max_new_tokens, settled.num_beams) == (14, None, 4)
    own = pipe("summarization", "bart").configuration(defaults)
    assert (own.max_length, own.max_new_tokens, own.num_beams) == (18, None, 3)
    plain = pipe("text2text-generation", "t5").configuration(defaults)
    assert (plain.max_length, plain.max_new_tokens, plain.num_beams) == (None, 256, 4)
    # No beams, though the task's settings are about beams.
    assert mine(TEXTS[0], num_beams=1, **SHORT)


def test_a_text_as_it_is_written(pipe: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    mine = pipe("text2text-generation", "t5")
    streamer = formers.TextStreamer(mine.tokenizer, skip_special_tokens=True)
    (answer,) = mine(TEXTS[0], streamer=streamer, num_beams=1, **SHORT)
    assert capsys.readouterr().out == answer["generated_text"] + "\n"
    stop = answer["generated_text"][3]
    (stopped,) = mine(TEXTS[0], stop_sequence=stop, num_beams=1, **SHORT)
    assert stop in stopped["generated_text"]
    assert answer["generated_text"].startswith(stopped["generated_text"])
    assert stopped != answer


def test_the_reference_generates_the_same(pipe: Callable[..., Any], folders: dict[str, str]) -> None:
    """Live, with the version of the reference that is installed."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folders["bart"]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["bart"])
    for text in TEXTS[:3]:
        ids = model.generate(**tokenizer(text, return_tensors="pt"), num_beams=4, max_new_tokens=8)
        answer = pipe("text2text-generation", "bart")(text, num_beams=4, return_tensors=True, **SHORT)
        assert answer[0]["generated_token_ids"].tolist() == ids[0].tolist()


# Tasks and models.


def test_tasks_by_their_names() -> None:
    assert formers.pipelines.check_task("translation_en_to_fr") == "translation"
    assert {"summarization", "translation", "text2text-generation"} <= set(formers.pipelines.get_supported_tasks())
    for wrong in ("translation_en_fr", "translation_en_to_", "summarisation"):
        with pytest.raises(InputError, match=rf"no task '{wrong}'\. Did you mean"):
            formers.pipeline(wrong)


def test_the_task_of_a_model(pipe: Callable[..., Any], folders: dict[str, str]) -> None:
    assert formers.pipeline(model=folders["t5"]).task == "text2text-generation"
    card = Path(folders["bart"]) / "README.md"
    card.write_text("---\npipeline_tag: summarization\n---\n", encoding="utf-8")
    assert isinstance(formers.pipeline(model=folders["bart"]), formers.SummarizationPipeline)
    card.unlink()
    assert pipe("translation_en_to_fr", "t5").task == "translation_en_to_fr"
    with pytest.raises(InputError, match=r"summarization was given a BertModel.*AutoModelForSeq2SeqLM"):
        formers.pipeline("summarization", model=_bert(), tokenizer=pipe("summarization", "t5").tokenizer)


def _bert() -> Any:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return formers.AutoModel.from_config(formers.BertConfig(vocab_size=30, **sizes))


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("summarization", "sshleifer/distilbart-cnn-12-6"),
        ("text2text-generation", "google-t5/t5-base"),
        ("translation_en_to_de", "google-t5/t5-base"),
    ],
)
def test_default_models(task: str, model: str, monkeypatch: Any, tmp_path: Path, caplog: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with (
        caplog.at_level(logging.WARNING, "formers"),
        pytest.raises(ModelNotFoundError, match=rf"{model}.*not in the cache"),
    ):
        formers.pipeline(task, cache_dir=tmp_path)
    assert f"{task} uses {model}" in caplog.text


@pytest.mark.parametrize("task", ["translation", "translation_en_to_xx"])
def test_translation_without_a_model(task: str) -> None:
    with pytest.raises(InputError, match=rf"{task} has no model of its own.*translation_en_to_fr"):
        formers.pipeline(task)


# Languages.


def test_a_pair_of_languages_in_the_call(pipe: Callable[..., Any], folders: dict[str, str]) -> None:
    german = pipe("translation_en_to_de", "t5")
    french = pipe("translation_en_to_fr", "t5")
    assert german(TEXTS, src_lang="en", tgt_lang="fr", **SHORT) == french(TEXTS, **SHORT) != german(TEXTS, **SHORT)
    made = formers.pipeline("translation", model=folders["t5"], src_lang="en", tgt_lang="fr")
    assert made(TEXTS, **SHORT) == french(TEXTS, **SHORT)
    fresh = formers.pipeline("translation", model=folders["bart"])
    with pytest.warns(UserWarning, match="one pair of languages stays"):
        fresh(TEXTS[0], src_lang="en", tgt_lang="fr", **SHORT)


def test_languages_change_nothing_that_is_shared(pipe: Callable[..., Any]) -> None:
    mine = pipe("translation", "mbart")
    before = mine.tokenizer("a cat")["input_ids"]
    mine(TEXTS[0], **PAIR, **SHORT)
    assert (mine.tokenizer.src_lang, mine.tokenizer("a cat")["input_ids"]) == ("en_XX", before)
    by_task = formers.pipeline("translation_fr_XX_to_de_DE", model=mine.model, tokenizer=mine.tokenizer)
    assert by_task(TEXTS[0], **SHORT) == mine(TEXTS[0], **PAIR, **SHORT)
    forced = mine(TEXTS[0], forced_bos_token_id=9, return_tensors=True, **PAIR, **SHORT)
    assert forced[0]["translation_token_ids"][1] == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"src_lang and tgt_lang is missing.*25 languages.*'ar_AR'"),
        ({"src_lang": "en_XX"}, "tgt_lang is missing"),
        ({"tgt_lang": "fr_XX"}, "src_lang is missing"),
        ({"src_lang": "en_XX", "tgt_lang": "fr"}, r"'fr' is none of the 25 languages.*'fr_XX'"),
        ({"src_lang": "en_EN", "tgt_lang": "fr_XX"}, "'en_EN' is none of .*'en_XX'"),
        ({"src_lang": "en_XX", "tgt_lang": 3}, "3 is none of the 25"),
    ],
    ids=str,
)
def test_languages_that_cannot_be(pipe: Callable[..., Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe("translation", "mbart")("a cat", **options, **SHORT)


# Lengths, and what cannot be.


def test_long_texts(folders: dict[str, str]) -> None:
    t5 = formers.pipeline("text2text-generation", model=folders["t5"])
    with pytest.warns(UserWarning, match=r"62 tokens; the tokenizer is made for 40.*truncation=True"):
        whole = t5(LONG, **SHORT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert t5(LONG, **SHORT) == t5(LONG, truncation=False, **SHORT) == whole
        assert t5(LONG, truncation="do_not_truncate", **SHORT) == whole
        assert t5(LONG, truncation=True, **SHORT) != whole
    bart = formers.pipeline("text2text-generation", model=folders["bart"])
    with pytest.warns(UserWarning, match=r"was cut to 60"):
        cut = bart(LONG, **SHORT)
    assert cut == bart(LONG, **SHORT)
    with pytest.raises(InputError, match=r"takes at most 60.*leave truncation out"):
        bart(LONG, truncation=False, **SHORT)


def test_lengths_that_people_rarely_mean(folders: dict[str, str]) -> None:
    summary = formers.pipeline("summarization", model=folders["bart"])
    with pytest.warns(UserWarning, match=r"max_length=18 lets a summary be longer.*has 7 tokens.*max_length=3"):
        summary("a dog")
    with pytest.warns(UserWarning, match=r"min_length=9 is above max_length=5"):
        summary(TEXTS[0], min_length=9, max_length=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary(["a dog", "a cat"])
        summary(TEXTS[0])
    translate = formers.pipeline("translation_en_to_fr", model=folders["t5"])
    with pytest.warns(UserWarning, match="max_length=12 may cut the translation"):
        translate(TEXTS[0])


@pytest.mark.parametrize("task", ["summarization", "translation_en_to_fr", "text2text-generation"])
@pytest.mark.parametrize("wrong", [None, 3, ["a", None], [["a", "b"]], [{"text": "a"}]], ids=str)
def test_inputs_that_cannot_be(pipe: Callable[..., Any], task: str, wrong: Any) -> None:
    with pytest.raises(InputError, match="of type"):
        pipe(task, "t5")(wrong, **SHORT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_token": 3}, r"no option 'max_new_token'\. Did you mean 'max_new_tokens'"),
        ({"src_lang": "en"}, "no option 'src_lang'"),
        ({"return_text": False}, r"return_text=False was given.*return_tensors=True"),
        ({"return_type": 2}, "return_type=2"),
        ({"num_return_sequences": 9}, "num_return_sequences=9 was asked of num_beams=4"),
        ({"max_length": 1}, "max_length=1 counts"),
        ({"top_p": 0.5}, "top_p=0.5 acts on sampling"),
        ({"num_beams": 1, "length_penalty": 2.0}, "acts on beams"),
        ({"max_length": 4, "max_new_tokens": 4}, "Both max_length=4 and max_new_tokens=4"),
        ({"truncation": "sideways"}, "sideways"),
    ],
    ids=str,
)
def test_options_that_cannot_be(pipe: Callable[..., Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe("text2text-generation", "t5")(LONG if "truncation" in options else "a dog", **options)


def test_empty_texts_and_endless_streams(pipe: Callable[..., Any]) -> None:
    mine = pipe("summarization", "t5")

    def endless() -> Iterator[str]:
        while True:
            yield "a dog"

    assert mine("", **SHORT)[0]["summary_text"]
    assert next(mine(endless(), **SHORT)) == mine("a dog", **SHORT)
