"""Whisper's tokenizer and the one form of transcripts, against the reference's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.whisper import english_normalizer as reference
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

import formers
from formers.errors import ConfigError, InputError
from formers.tokenization import transcripts, whisper

from .conftest import CORPUS

SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES)]
SPECIAL += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
SPELLINGS = {"colour": "color", "realise": "realize"}


@pytest.fixture(scope="module", params=["with timestamps in the vocabulary", "without"])
def folder(request: pytest.FixtureRequest, roberta_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whisper")
    vocab = [token for token in json.loads((roberta_folder / "vocab.json").read_text()) if token[0] != "<"]
    (path / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate([*vocab, "<"])}))
    (path / "merges.txt").write_text((roberta_folder / "merges.txt").read_text())
    times = [f"<|{step * 0.02:.2f}|>" for step in range(1501)] if request.param[:5] == "with " else []
    first = len(vocab) + 1
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    decoder = {
        str(first + place): {"content": token, "special": token in SPECIAL, **flags}
        for place, token in enumerate([*SPECIAL, *times])
    }
    config = {
        "tokenizer_class": "WhisperTokenizer",
        "additional_special_tokens": SPECIAL[1:],
        "added_tokens_decoder": decoder,
        "pad_token": "<|endoftext|>",
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    (path / "normalizer.json").write_text(json.dumps(SPELLINGS))
    return path


@pytest.fixture
def both(folder: Path) -> tuple[Any, Any]:
    return formers.AutoTokenizer.from_pretrained(folder), transformers.WhisperTokenizer.from_pretrained(folder)


def test_what_texts_start_with(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    assert type(ours) is formers.WhisperTokenizer is formers.WhisperTokenizerFast
    given_settings: list[dict[str, Any]] = [
        {},
        {"language": "french", "task": "translate"},
        {"language": "DE", "predict_timestamps": True},
        {"language": "Castilian"},
        {"task": "transcribe"},
    ]
    for arguments in given_settings:
        for tokenizer in both:
            tokenizer.set_prefix_tokens(**arguments)
        assert ours.prefix_tokens == theirs.prefix_tokens
        for text in CORPUS:
            assert ours(text, "pair").data == theirs(text, "pair").data
            assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    arguments = {"language": "es", "task": "transcribe"}
    assert ours.get_decoder_prompt_ids(**arguments) == theirs.get_decoder_prompt_ids(**arguments)
    assert (ours.get_prompt_ids(" Names: a b ") == theirs.get_prompt_ids(" Names: a b ")).all()
    assert (whisper.LANGUAGES, whisper.TO_LANGUAGE_CODE) == (LANGUAGES, TO_LANGUAGE_CODE)


def test_decoding(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    first = ours.timestamp_begin
    words = [ours(text, add_special_tokens=False)["input_ids"] for text in (" colour", " the", " twenty one", "é")]
    prompt = [ours.convert_tokens_to_ids("<|startofprev|>"), *words[0]]
    part = st.one_of(
        st.sampled_from(words),
        st.integers(0, 1500).map(lambda step: [first + step]),
        st.integers(0, 1500).map(lambda step: [first + step] * 2),
    )
    rows = st.tuples(
        st.sampled_from([[], prompt]), st.sampled_from([[], ours.prefix_tokens]), st.lists(part, max_size=8)
    ).map(lambda parts: [*parts[0], *parts[1], *(index for row in parts[2] for index in row)])
    ways: list[dict[str, Any]] = [
        {},
        {"decode_with_timestamps": True},
        {"output_offsets": True},
        {"output_offsets": True, "time_precision": 0.04},
        {"normalize": True},
        {"basic_normalize": True, "remove_diacritics": True},
    ]

    @settings(max_examples=60)
    @given(rows, st.booleans())
    def check(ids: list[int], skip: bool) -> None:
        for way in ways:
            assert ours.decode(ids, skip, **way) == theirs.decode(ids, skip, **way)

    check()
    row = [*words[0], first, *words[1], first + 50]
    text = ours.decode(row, output_offsets=True)
    assert ours.decode(torch.tensor([row, row]), output_offsets=True) == [text, text]
    assert ours.batch_decode([row], output_offsets=True) == [text]
    assert ours.batch_decode(torch.tensor([row]), decode_with_timestamps=True) == [" colour<|0.00|> the<|1.00|>"]
    # Each row loses its prompt; the reference looks at the first one only.
    assert ours.batch_decode([[*prompt, *ours.prefix_tokens, *words[1]]], skip_special_tokens=True) == [" the"]


def test_save_and_load(both: tuple[Any, Any], tmp_path: Path) -> None:
    ours, _ = both
    ours.set_prefix_tokens(language="fr", task="transcribe")
    written = {Path(path).name for path in ours.save_pretrained(tmp_path)}
    assert {"tokenizer.json", "vocab.json", "merges.txt", "normalizer.json"} <= written
    for raw in (False, True):
        if raw:
            (tmp_path / "tokenizer.json").unlink()
        for library in (formers, transformers):
            again = library.AutoTokenizer.from_pretrained(tmp_path)
            assert again("the fox")["input_ids"] == ours("the fox")["input_ids"]
            assert (again.language, again.english_spelling_normalizer) == ("fr", SPELLINGS)


def test_errors(both: tuple[Any, Any], folder: Path, tmp_path: Path) -> None:
    ours, _ = both
    with pytest.raises(InputError, match=r"'frensh' is none of the 100 languages.*Near ones are 'french'"):
        ours.set_prefix_tokens(language="frensh")
    with pytest.raises(InputError, match=r"'xx' is none of the 100 languages"):
        formers.WhisperTokenizer.from_pretrained(folder, language="xx")
    ours = formers.WhisperTokenizer.from_pretrained(folder)
    with pytest.raises(InputError, match=r"task='sing' is no task of Whisper.*'transcribe' or 'translate'"):
        ours.set_prefix_tokens(task="sing")
    with pytest.raises(InputError, match=r"The prompt holds the special token '<\|fr\|>'"):
        ours.get_prompt_ids("a <|fr|>")
    (tmp_path / "normalizer.json").write_text("[]")
    with pytest.raises(ConfigError, match="must hold an object of spellings"):
        formers.WhisperTokenizer.from_pretrained(folder, normalizer_file=str(tmp_path / "normalizer.json"))


WORDS = [
    *transcripts._WORDS,
    "5",
    "3.5",
    "-4",
    "$20",
    "£3.00",
    "¢7",
    "1,234",
    "20th",
    "3 rd",
    "and a half",
    "x1y2",
    "%",
]
WORDS += ["Colour", "He's", "won't", "I'd been", "Mr.", "um", "[x]", "(y z)", "œuf", "Ø", "é", "o'clock", "1s", "$0.05"]
TRANSCRIPTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=30), st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
)


@settings(max_examples=500)
@given(TRANSCRIPTS)
def test_one_form_of_transcripts(text: str) -> None:
    assert transcripts.English(SPELLINGS).normalize(text) == reference.EnglishTextNormalizer(SPELLINGS)(text)
    for marks in (False, True):
        assert transcripts.basic(text, marks) == reference.BasicTextNormalizer(remove_diacritics=marks)(text)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Dr. Smith's colour, twenty one dollars", "doctor smith is color $21"),
        ("nineteen eighty four", "1984"),
        ("two and a half percent", "2.5%"),
        ("double oh seven", "007"),
        ("minus three hundred and five thousandths", "-305 thousandths"),
    ],
)
def test_examples(text: str, form: str) -> None:
    assert transcripts.English(SPELLINGS).normalize(text).strip() == form
