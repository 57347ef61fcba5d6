"""automatic-speech-recognition beside the reference: a tiny random Whisper, and real weights on spoken texts."""

from __future__ import annotations

import io
import resource
import warnings
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import transformers

import formers
from formers.audio import files
from formers.audio.resampling import resample
from formers.errors import ConfigError, InputError, UnsupportedError
from formers.pipelines import automatic_speech_recognition as module
from tests.pipelines import speech
from tests.pipelines.speech import RATE, sound, wav

TASK = "automatic-speech-recognition"
GREEDY = {"num_beams": 1, "max_new_tokens": 30}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return speech.made(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def ours(folder: str) -> Any:
    return formers.pipeline(TASK, model=folder, device="cpu")


@pytest.fixture(scope="module")
def theirs(folder: str) -> Any:
    return reference(folder)


def reference(folder: str) -> Any:
    transformers.logging.set_verbosity_error()
    return transformers.pipeline(TASK, model=folder, dtype=torch.float32, device="cpu")


# Beside the reference.

PARTS: list[dict[str, Any]] = [
    {},
    {"return_timestamps": True},
    {"return_timestamps": "word"},
    {"return_language": True},
    {"return_timestamps": True, "return_language": True},
]
PIECES: list[dict[str, Any]] = [
    {"chunk_length_s": 1.5},
    {"chunk_length_s": 2, "stride_length_s": 0},
    {"chunk_length_s": 1.2, "stride_length_s": (0.3, 0.1), "return_timestamps": True},
    {"chunk_length_s": 2, "return_timestamps": "word"},
    {"chunk_length_s": 1.5, "return_timestamps": True, "return_language": True},
]
SETTINGS: list[dict[str, Any]] = [
    GREEDY,
    {**GREEDY, "language": "de"},
    {**GREEDY, "language": "english", "task": "translate"},
    {"num_beams": 3, "max_new_tokens": 12},
    {**GREEDY, "repetition_penalty": 1.5},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("options", PARTS, ids=str)
def test_short_recordings(ours: Any, theirs: Any, options: dict[str, Any], settings: dict[str, Any]) -> None:
    # Of words that are heard behind the end of a recording the times differ: the reference counts states from there.
    for seconds in (2,) if options.get("return_timestamps") == "word" else (1.3, 2):
        wave = sound(seconds)
        expected = theirs(wave.copy(), generate_kwargs=dict(settings), **options)
        assert ours(wave, generate_kwargs=settings, **options) == expected
        assert expected["text"]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("options", [*PIECES, *(each for each in PARTS if "return_timestamps" in each)], ids=str)
def test_long_recordings(ours: Any, theirs: Any, options: dict[str, Any], settings: dict[str, Any]) -> None:
    """In pieces whose strides are merged, and window by window."""
    wave = sound(74668 / RATE)  # the last piece of 2 s with usual strides is a whole one
    expected = theirs(wave.copy(), generate_kwargs=dict(settings), **options)
    assert ours(wave, generate_kwargs=settings, **options) == expected


def test_words_have_their_times_with_languages_too(ours: Any) -> None:
    """Where those of the reference move on by one token."""
    for seconds in (1.3, 5.2):
        expected = ours(sound(seconds), return_timestamps="word", **GREEDY)
        answer = ours(sound(seconds), return_timestamps="word", return_language=True, **GREEDY)
        assert {word.pop("language") for word in answer["chunks"]} == {"german"}
        assert answer == expected


def test_usual_settings(ours: Any, theirs: Any) -> None:
    """Five beams and 256 tokens, or as many as there are positions for."""
    few = ours(sound(1), generate_kwargs={"max_new_tokens": 20})
    assert few == theirs(sound(1), generate_kwargs={"max_new_tokens": 20})
    assert few == ours(sound(1), max_new_tokens=20, num_beams=5)
    assert ours(sound(1))["text"]


def test_long_recordings_need_no_asking_for_times(ours: Any) -> None:
    wave = sound(5)
    assert ours(wave, **GREEDY) == {"text": ours(wave, return_timestamps=True, **GREEDY)["text"]}


def test_thresholds_and_context(ours: Any, theirs: Any) -> None:
    wave = sound(5.3)
    for more in (
        {"condition_on_prev_tokens": True},
        {"condition_on_prev_tokens": True, "compression_ratio_threshold": 0.5, "temperature": (0.0, 0.0)},
        {"logprob_threshold": -0.1, "no_speech_threshold": 0.0, "temperature": 0.0},
        {"prompt_ids": torch.tensor([speech.ID["<|startofprev|>"], 3, 4])},
    ):
        settings = {"num_beams": 1, "language": "en", **more}
        expected = theirs(wave.copy(), return_timestamps=True, generate_kwargs=dict(settings))
        assert ours(wave, return_timestamps=True, generate_kwargs=settings) == expected


# What a recording may be.


def test_the_same_recording_in_all_forms(ours: Any, folder: str, tmp_path: Path) -> None:
    raw = wav(sound(1.6))
    samples = np.frombuffer(raw[44:], np.int16)
    floats = samples.astype(np.float32) / 2**15
    path = tmp_path / "a.wav"
    path.write_bytes(raw)
    expected = ours(floats, **GREEDY)
    assert expected["text"]
    forms = [
        str(path),
        path,
        raw,
        samples,
        floats.astype(np.float64),
        torch.from_numpy(floats),
        np.stack([floats, floats]),
        {"array": floats, "sampling_rate": RATE},
        {"raw": torch.from_numpy(floats), "sampling_rate": RATE},
        {"path": "elsewhere.wav", "array": floats.tolist(), "sampling_rate": RATE},
    ]
    for form in forms:
        assert ours(form, **GREEDY) == expected
    assert ours(forms, **GREEDY) == [expected] * len(forms)


def test_other_rates(ours: Any, theirs: Any) -> None:
    wave = sound(1.7, rate=22050)
    expected = ours(resample(wave, 22050, RATE), **GREEDY)
    assert ours({"array": wave, "sampling_rate": 22050}, **GREEDY) == expected
    assert ours(wav(wave, 22050), **GREEDY)["text"]
    pytest.importorskip("torchaudio")
    assert theirs({"array": wave, "sampling_rate": 22050}, generate_kwargs=dict(GREEDY)) == expected


def test_what_comes_with_a_recording_comes_with_the_answer(ours: Any, theirs: Any) -> None:
    item = {"array": sound(1.5), "sampling_rate": RATE, "speaker": "Ada", "stride": (1600, 3200)}
    answer = ours(dict(item), return_timestamps=True, **GREEDY)
    assert answer == theirs(dict(item), return_timestamps=True, generate_kwargs=dict(GREEDY))
    assert answer["speaker"] == ["Ada"]
    assert item.keys() == {"array", "sampling_rate", "speaker", "stride"}


def test_lists_batches_and_streams(ours: Any) -> None:
    waves = [sound(seconds, seed) for seed, seconds in enumerate((1.2, 4.4, 2, 0.3, 3.1))]
    for options in ({}, {"return_timestamps": "word"}, {"chunk_length_s": 1.5, "return_timestamps": True}):
        alone = [ours(wave, **GREEDY, **options) for wave in waves]
        assert ours(waves, **GREEDY, **options) == alone
        assert ours(tuple(waves), batch_size=2, **GREEDY, **options) == alone
        assert list(ours((wave for wave in waves), **GREEDY, **options)) == alone
        assert list(ours.stream(waves, batch_size=3, **GREEDY, **options)) == alone
    assert ours([], **GREEDY) == []

    def endless() -> Iterator[Any]:
        while True:
            yield waves[0]

    assert next(ours(endless(), **GREEDY)) == ours(waves[0], **GREEDY)


def test_pieces_share_steps(ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    transcribe = module.transcribe

    def counted(model: Any, recordings: Any, task: Any) -> Any:
        rows.append(len(recordings))
        return transcribe(model, recordings, task)

    monkeypatch.setattr(module, "transcribe", counted)
    ours([sound(4), sound(4)], chunk_length_s=1, stride_length_s=0, **GREEDY)
    ours([sound(4), sound(4)], chunk_length_s=1, stride_length_s=0, batch_size=3, **GREEDY)
    assert rows == [8, 3, 3, 2]


def test_nothing_is_changed_by_a_call(ours: Any) -> None:
    wave, item = sound(1), {"array": sound(1), "sampling_rate": RATE}
    before = wave.copy()
    settings = {**GREEDY, "return_timestamps": True}
    first = ours(wave, generate_kwargs=settings)
    assert "chunks" in first
    assert settings == {**GREEDY, "return_timestamps": True}
    assert ours(item, generate_kwargs=settings) == first
    assert item.keys() == {"array", "sampling_rate"}
    assert (wave == before).all()
    assert "chunks" not in ours(wave, **GREEDY)


# How it is made.


def test_options_of_the_pipeline(folder: str) -> None:
    made = formers.pipeline(TASK, model=folder, chunk_length_s=1.5, generate_kwargs={"max_new_tokens": 9}, num_beams=1)
    plain = formers.pipeline(TASK, model=made.model, tokenizer=made.tokenizer, feature_extractor=folder)
    wave = sound(4)
    assert made(wave) == plain(wave, chunk_length_s=1.5, max_new_tokens=9, num_beams=1)
    assert made(wave, max_new_tokens=5) == plain(wave, chunk_length_s=1.5, max_new_tokens=5, num_beams=1)
    assert formers.pipeline(model=folder).task == TASK


def test_from_its_parts_and_from_files(ours: Any, folder: str, tmp_path: Path) -> None:
    processor = formers.WhisperProcessor.from_pretrained(folder)
    model = formers.AutoModelForSpeechSeq2Seq.from_pretrained(folder)
    expected = ours(sound(1.4), **GREEDY)
    assert formers.pipeline(TASK, model=model, processor=processor)(sound(1.4), **GREEDY) == expected
    ours.save_pretrained(tmp_path / "saved")
    assert formers.pipeline(TASK, model=str(tmp_path / "saved"))(sound(1.4), **GREEDY) == expected
    assert reference(str(tmp_path / "saved"))(sound(1.4), generate_kwargs=dict(GREEDY)) == expected
    bare = formers.WhisperForConditionalGeneration(model.config)
    bare.config.name_or_path = ""
    with pytest.raises(InputError, match=r"needs a feature extractor.*AutoFeatureExtractor"):
        formers.pipeline(TASK, model=bare, tokenizer=processor.tokenizer)


# What cannot be heard.


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (np.zeros(0, np.float32), "no samples"),
        ([np.zeros(0, np.float32)], "no samples"),
        (b"", "is empty"),
        (b"no sound at all " * 9, "in no format that can be read"),
        (wav(np.zeros(0)), "has no samples"),
        ("none/such.wav", r"no file 'none/such\.wav'"),
        (np.array([0, np.nan, np.inf], np.float32), "2 of 3 samples are infinite or no numbers"),
        (np.zeros((3, 500), np.float32), r"\(3, 500\).*Transpose"),
        (np.zeros((500, 2), np.float32), "Transpose"),
        (np.zeros(9, complex), "no numbers"),
        (["a.wav", None], "NoneType|no file"),
        ({"array": np.zeros(9)}, "sampling_rate"),
        ({"sampling_rate": 9}, "'sampling_rate'"),
        ({}, "nothing"),
        ({"array": np.zeros(9), "sampling_rate": 0}, "rate=0"),
        ({"array": np.zeros(9), "sampling_rate": 16000.5}, "whole number"),
        ({"array": np.zeros(9), "sampling_rate": "fast"}, "'fast'"),
        ({"array": np.zeros(9), "sampling_rate": RATE, "stride": (5, 5)}, r"stride of \(5, 5\)"),
        ("https://example.org/a.wav", r"nothing is fetched unasked.*allow_urls=True"),
    ],
    ids=str,
)
def test_recordings_that_cannot_be(ours: Any, recording: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ours(recording, **GREEDY)


@pytest.mark.parametrize("wrong", [None, 3, object()])
def test_things_that_are_no_recordings(ours: Any, wrong: Any) -> None:
    with pytest.raises(InputError, match="of type"):
        ours(wrong)


@pytest.mark.parametrize("samples", [1, 7, 399])
def test_a_moment_and_silence_are_heard(ours: Any, theirs: Any, samples: int) -> None:
    moment, silence = sound(1)[:samples], np.zeros(RATE * 3, np.float32)
    assert ours(moment, **GREEDY) == theirs(moment.copy(), generate_kwargs=dict(GREEDY))
    expected = theirs(silence.copy(), return_timestamps=True, generate_kwargs=dict(GREEDY))
    assert ours(silence, return_timestamps=True, **GREEDY) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_timestamp": True}, "no option 'return_timestamp'. Did you mean 'return_timestamps'"),
        ({"return_timestamps": "words"}, "return_timestamps='words'.*'word' for words"),
        ({"chunk_length_s": -1}, "chunk_length_s=-1"),
        ({"chunk_length_s": 9}, "chunk_length_s up to 2"),
        ({"chunk_length_s": 1, "stride_length_s": 0.5}, "longer than both strides together"),
        ({"language": "germn"}, "germn.*german"),
        ({"language": "fr"}, "does not know the language 'fr'. It knows: de, en"),
        ({"task": "transcibe"}, "Use 'transcribe'"),
        ({"max_new_tokens": 90}, "the model has 60 positions"),
        ({"prompt_ids": [3] * 70}, "the model has 60 positions"),
        ({"generate_kwargs": {"beams": 3}}, "generate_kwargs holds 'beams'"),
        ({"temperature": -1}, "temperature"),
    ],
    ids=str,
)
def test_options_that_cannot_be(ours: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ours(sound(1), **options)


def test_what_models_lack(folder: str) -> None:
    pipe = formers.pipeline(TASK, model=folder)
    with pytest.raises(UnsupportedError, match="decoder_kwargs"):
        pipe(sound(1), decoder_kwargs={"beam": 1})
    with pytest.raises(InputError, match=r"return_timestamps=False"):
        pipe(sound(3), return_timestamps=False, **GREEDY)
    for name in ("alignment_heads", "no_timestamps_token_id"):
        del pipe.model.generation_config.extra[name]
        with pytest.raises(ConfigError, match=name):
            pipe(sound(3), return_timestamps="word", **GREEDY)


def test_recordings_on_the_web(ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> Any:
        asked.append(url)
        assert timeout > 0
        if "gone" in url:
            raise URLError("not found")
        return io.BytesIO(wav(sound(1.5)))

    monkeypatch.setattr(module, "urlopen", urlopen)
    with pytest.raises(InputError, match="unasked"):
        ours("https://example.org/a.wav", **GREEDY)
    assert not asked
    answer = ours("https://example.org/a.wav", allow_urls=True, **GREEDY)
    assert answer == ours(wav(sound(1.5)), **GREEDY)
    with pytest.raises(InputError, match=r"gone.wav cannot be fetched.*not found"):
        ours("http://example.org/gone.wav", allow_urls=True, **GREEDY)
    monkeypatch.setattr(module, "_LARGEST", 1000)
    with pytest.raises(InputError, match="larger than 1000 bytes"):
        ours("https://example.org/a.wav", allow_urls=True, **GREEDY)


# Real weights.

SAID = (
    "On a cold morning in November, the ship left the harbour with forty two passengers and a crew of nine. "
    "Nobody on board knew that the weather would change before noon. The captain, a quiet man from the north, "
    "looked at the sky and ordered the sails to be taken in. By the time the storm arrived, everything was ready. "
    "They waited below deck, telling stories about other voyages and other storms."
)


@pytest.mark.slow
def test_real_weights(whisper: Path) -> None:
    """Word for word as the reference, on half a minute of speech."""
    wave = speech.spoken(SAID).numpy()
    mine, other = formers.pipeline(TASK, model=str(whisper)), reference(str(whisper))
    greedy = {"num_beams": 1}
    for options in (
        {"return_timestamps": True},
        {"return_timestamps": "word"},
        {"chunk_length_s": 10},
        {"chunk_length_s": 10, "return_timestamps": True},
        {"chunk_length_s": 10, "return_timestamps": "word"},
    ):
        expected = other(wave[: 25 * RATE].copy(), generate_kwargs=dict(greedy), **options)
        assert mine(wave[: 25 * RATE], generate_kwargs=greedy, **options) == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = mine(wave, **greedy)["text"]
    assert "the ship left the harbor" in text.replace("harbour", "harbor")
    expected = other(wave.copy(), return_timestamps=True, generate_kwargs=dict(greedy))
    assert mine(wave, return_timestamps=True, generate_kwargs=greedy) == expected


@pytest.mark.slow
def test_ctranslate2_writes_the_same(whisper: Path, whisper_ctranslate2: Path) -> None:
    """The weights as they are packaged, through CTranslate2 in float32, beside those converted."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    waves = speech.spoken(SAID).split(9 * RATE)[:3]
    texts = [answer["text"] for answer in formers.pipeline(TASK, model=str(whisper))(list(waves), num_beams=1)]
    processor = formers.WhisperProcessor.from_pretrained(whisper)
    features = processor([wave.numpy() for wave in waves], sampling_rate=RATE, return_tensors="np").input_features
    model = ctranslate2.models.Whisper(str(whisper_ctranslate2), compute_type="float32", intra_threads=1)
    prompt = ["<|startoftranscript|>", "<|notimestamps|>"]
    found = model.generate(
        ctranslate2.StorageView.from_array(np.ascontiguousarray(features)), [prompt] * len(waves), beam_size=1
    )
    assert [processor.decode(one.sequences_ids[0], skip_special_tokens=True) for one in found] == texts
    assert all(texts)


# Memory.


def resident() -> int:
    """Bytes of memory that this process has."""
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("this system does not tell how much memory a process has")
    return int(status.read_text().split()[1]) * resource.getpagesize()


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hour, at another rate than the model's, for which it is 230 MB of samples (and as much again to join them)."""
    path = tmp_path_factory.mktemp("long") / "hour.wav"
    minute = (sound(60, rate=8000) * 100 + 128).clip(0, 255).astype(np.uint8).tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        for _ in range(60):
            file.writeframes(minute)
    return path


@pytest.mark.parametrize("options", [{}, {"chunk_length_s": 2, "stride_length_s": 0, "batch_size": 60}], ids=str)
def test_hours_need_little_memory(
    ours: Any, long_file: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = heard = 0

    def walk(model: Any, recordings: list[Any], task: Any) -> list[list[Any]]:
        nonlocal most, heard
        for recording in recordings:
            for start in range(0, recording.frames, 200):
                heard += recording.window(start, min(200, recording.frames - start)).shape[1]
                most = max(most, resident())
        return [[] for _ in recordings]

    monkeypatch.setattr(module, "transcribe", walk)
    monkeypatch.setattr(files, "_SECONDS", 20)
    ours(sound(5), **options)
    before = resident()
    assert ours(long_file, **options) == {"text": ""}
    assert heard >= 360_000
    assert most - before < 150e6


def test_files_are_read_as_samples_are(ours: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(wav(sound(7)))
    held = files.read(tmp_path / "a.wav").numpy()
    monkeypatch.setattr(files, "_SECONDS", 1)
    for options in ({"return_timestamps": True}, {"chunk_length_s": 1.5, "return_timestamps": True}):
        assert ours(tmp_path / "a.wav", generate_kwargs=GREEDY, **options) == ours(
            held, generate_kwargs=GREEDY, **options
        )
