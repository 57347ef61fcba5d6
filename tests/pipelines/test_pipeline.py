"""What all pipelines share: forms of input, order, batching, truncation, threads, memory, saving."""

from __future__ import annotations

import gc
import itertools
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import formers
from formers import pipeline
from formers.errors import InputError
from formers.pipelines.pt_utils import KeyDataset, KeyPairDataset


@pytest.fixture(scope="module")
def folder(make_bert: Callable[..., Path]) -> Path:
    return make_bert("ForSequenceClassification")


@pytest.fixture(scope="module")
def shared(folder: Path) -> Any:
    return pipeline("text-classification", model=folder)


@pytest.fixture
def pipe(folder: Path) -> Any:
    """A pipeline of one's own, which has not warned yet."""
    return pipeline("text-classification", model=folder)


@pytest.fixture(scope="module")
def wanted(shared: Any, texts: list[str]) -> list[Any]:
    """The answers to the texts, each asked alone."""
    return [shared(text)[0] for text in texts]


class Columns:
    """A dataset with a length and items, without iteration of its own."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, str]:
        if not isinstance(index, int):
            raise TypeError("only whole numbers")
        return self.rows[index]


# -- forms of input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [list, tuple, np.array])
def test_sequences_give_lists(
    shared: Any, texts: list[str], wanted: list[Any], same: Callable[..., None], form: Any
) -> None:
    answers = shared(form(texts))
    assert isinstance(answers, list)
    same(answers, wanted)
    assert shared(form([])) == []


def test_a_column_of_a_dataset_gives_a_list(
    shared: Any, texts: list[str], wanted: list[Any], same: Callable[..., None]
) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": texts, "label": [0] * len(texts)})
    answers = shared(data["text"])
    assert isinstance(answers, list)
    same(answers, wanted)


def test_datasets_give_iterators_with_a_length(
    shared: Any, texts: list[str], wanted: list[Any], same: Callable[..., None]
) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": texts})
    for data in (KeyDataset(rows, "text"), rows, Columns([{"text": text} for text in texts])):
        answers = shared(data)
        assert not isinstance(answers, list)
        assert len(answers) == len(texts)
        same(list(answers), wanted)


def test_pairs_of_columns(shared: Any, same: Callable[..., None]) -> None:
    rows = Columns([{"a": "a movie", "b": "a film"}, {"a": "bad", "b": "good"}])
    answers = list(shared(KeyPairDataset(rows, "a", "b")))
    same(answers, [shared({"text": "a movie", "text_pair": "a film"}), shared({"text": "bad", "text_pair": "good"})])


def test_generators_are_lazy_and_may_be_endless(shared: Any, texts: list[str], wanted: list[Any]) -> None:
    taken = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for text in itertools.cycle(texts):
            taken += 1
            yield text

    answers = shared(source())
    assert taken == 0
    first = next(answers)
    assert first["label"] == wanted[0]["label"]
    assert taken <= 8
    more = list(itertools.islice(answers, 200))
    assert [a["label"] for a in more] == [w["label"] for w in itertools.islice(itertools.cycle(wanted), 1, 201)]
    with pytest.raises(TypeError, match="no length"):
        len(answers)


def test_lists_can_be_streamed(shared: Any, texts: list[str], wanted: list[Any], same: Callable[..., None]) -> None:
    answers = shared.stream(texts)
    same(next(answers), wanted[0])
    same(list(answers), wanted[1:])


def test_first_answer_of_a_stream_comes_after_one_batch(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    forward = pipe.forward

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return forward(*arguments)

    monkeypatch.setattr(pipe, "forward", counted)
    monkeypatch.setattr("formers.pipelines.base.CPU_TOKENS", 40)
    next(pipe(iter(["good " * 30, "bad", "a good movie", "river " * 20] * 20)))
    assert calls == 1


@pytest.mark.parametrize("value", [None, 3, b"bytes", 2.5])
def test_other_inputs_are_refused(shared: Any, value: Any) -> None:
    with pytest.raises(InputError, match=type(value).__name__):
        list(shared(value))
    with pytest.raises(InputError, match=type(value).__name__):
        shared(["a", value])


# -- order and batching ----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), max_size=40),
    batch_size=st.sampled_from([None, 1, 3, 100]),
    tokens=st.sampled_from([1, 30, 4096]),
    stream=st.booleans(),
)
def test_answers_come_in_input_order(
    shared: Any, lengths: list[int], batch_size: int | None, tokens: int, stream: bool
) -> None:
    values = [" ".join(["good", "city", "river"][index % 3] for _ in range(n)) for index, n in enumerate(lengths)]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr("formers.pipelines.base.CPU_TOKENS", tokens)
        answers = list(shared(iter(values) if stream else values, batch_size=batch_size))
        alone = [shared(value)[0] for value in values]
    assert [a["label"] for a in answers] == [a["label"] for a in alone]
    assert [a["score"] for a in answers] == pytest.approx([a["score"] for a in alone], rel=1e-4)


def test_batch_size_forces_batches_in_input_order(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[int]] = []
    forward = pipe.forward

    def recorded(rows: Any, options: Any) -> Any:
        batches.append([len(row) for row in rows])
        return forward(rows, options)

    monkeypatch.setattr(pipe, "forward", recorded)
    values = ["good " * n for n in (9, 1, 5, 2, 7)]
    pipe(values, batch_size=2)
    assert batches == [[11, 3], [7, 4], [9]]
    batches.clear()
    pipe(values)
    assert batches == [[3, 4, 7, 9, 11]]


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_wrong_batch_sizes_are_refused(shared: Any, folder: Path, size: Any) -> None:
    with pytest.raises(InputError, match="batch_size"):
        shared(["a"], batch_size=size)
    with pytest.raises(InputError, match="batch_size"):
        pipeline("text-classification", model=folder, batch_size=size)


def test_a_tokenizer_without_padding_token(folder: Path, texts: list[str], wanted: list[Any]) -> None:
    tokenizer = formers.AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    pipe = pipeline("text-classification", model=folder, tokenizer=tokenizer)
    assert [a["label"] for a in pipe(texts)] == [w["label"] for w in wanted]
    with pytest.raises(InputError, match=r"no padding token.*pad_token"):
        pipe(texts, batch_size=4)


def test_a_tokenizer_of_another_model(folder: Path) -> None:
    tokenizer = formers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["blockbuster"])
    pipe = pipeline("text-classification", model=folder, tokenizer=tokenizer)
    assert pipe("good")
    with pytest.raises(InputError, match=r"do not belong together.*resize_token_embeddings"):
        pipe("a blockbuster")


def test_a_model_without_token_types(folder: Path, same: Callable[..., None]) -> None:
    tokenizer = formers.AutoTokenizer.from_pretrained(folder)
    config = formers.DebertaV2Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model = formers.AutoModelForSequenceClassification.from_config(config)
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer)
    pair = {"text": "a good movie", "text_pair": "bad"}
    same(pipe([pair, "bad"]), [pipe(pair), pipe("bad")[0]])


# -- truncation ------------------------------------------------------------------------------------------------------


def test_over_long_inputs_are_cut_with_one_warning(
    pipe: Any, same: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.warns(UserWarning, match="has 102 tokens and was cut to 48") as caught:
        answer = pipe("good " * 100)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(pipe(["bad", "good " * 100, "good " * 90]), [pipe("bad")[0], answer[0], answer[0]])
    same(answer, pipe("good " * 46))
    assert not caplog.records


def test_agreed_truncation_does_not_warn(pipe: Any, same: Callable[..., None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(pipe("good " * 100, truncation=True), pipe("good " * 46))
        same(pipe("good " * 100, truncation=True, max_length=10), pipe("good " * 8))
        same(pipe("good " * 100, max_length=10), pipe("good " * 8))
        same(pipe(["good " * 9, "bad"], max_length=10), pipe(["good " * 8, "bad"]))


def test_refused_truncation_is_an_error(pipe: Any) -> None:
    with pytest.raises(InputError, match=r"has 102 tokens; this model takes at most 48"):
        pipe("good " * 100, truncation=False)
    assert pipe("good " * 40, truncation=False)


def test_the_limit_of_the_positions_counts(folder: Path) -> None:
    tokenizer = formers.AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = int(1e30)
    pipe = pipeline("text-classification", model=folder, tokenizer=tokenizer)
    with pytest.warns(UserWarning, match="cut to 48"):
        assert pipe("good " * 100)
    with pytest.raises(InputError, match="at most 48"):
        pipe("good " * 100, truncation=False, max_length=1000)


def test_pairs_are_cut_too(pipe: Any) -> None:
    with pytest.warns(UserWarning, match="cut to 48"):
        assert pipe({"text": "good " * 100, "text_pair": "bad " * 100})
    assert pipe({"text": "good " * 100, "text_pair": "bad"}, truncation="only_first")
    with pytest.raises(InputError, match="cannot be cut to 48 tokens by the strategy 'only_second'"):
        pipe({"text": "good " * 100, "text_pair": "bad"}, truncation="only_second")


# -- options ---------------------------------------------------------------------------------------------------------


def test_unknown_options_name_near_ones(shared: Any, folder: Path) -> None:
    with pytest.raises(InputError, match=r"no option 'topk'.*'top_k'"):
        shared("a", topk=2)
    with pytest.raises(InputError, match=r"no option 'function'.*'function_to_apply'"):
        pipeline("text-classification", model=folder, function="none")


def test_options_of_one_call_do_not_stay(shared: Any) -> None:
    before = shared("a good movie")
    assert len(shared("a good movie", top_k=None)) == 3
    assert shared("a good movie") == before


# -- threads and memory ----------------------------------------------------------------------------------------------


def test_threads_may_share_a_pipeline(shared: Any, texts: list[str], same: Callable[..., None]) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = [
        (texts[1], {}),
        (texts[1], {"top_k": None}),
        (texts, {"truncation": True, "max_length": 6}),
        (texts[3], {"max_length": 4}),
        (texts[:5], {"top_k": 2, "function_to_apply": "sigmoid"}),
        ({"text": texts[0], "text_pair": texts[1]}, {"batch_size": 2}),
        (texts, {"batch_size": 4}),
        (texts[:9], {"padding": "max_length", "max_length": 30}),
    ]
    wanted = [shared(value, **options) for value, options in calls]
    barrier = threading.Barrier(16)

    def work(seed: int) -> list[tuple[int, Any]]:
        barrier.wait(timeout=60)
        order = [(seed + step) % len(calls) for step in range(2 * len(calls))]
        return [(place, shared(calls[place][0], **calls[place][1])) for place in order]

    with ThreadPoolExecutor(16) as pool:
        for done in pool.map(work, range(16)):
            for place, answer in done:
                same(answer, wanted[place])


def _grown(pipe: Any, calls: int) -> float:
    """How much larger the process is after many calls, as a fraction."""
    process = pytest.importorskip("psutil").Process()
    values = ["good " * n for n in range(1, 40)]

    def call(count: int) -> None:
        for index in range(count):
            pipe(values[index % 39])
            if index % 50 == 0:
                pipe(values)
        gc.collect()

    call(300)
    before = process.memory_info().rss
    call(calls)
    return float(process.memory_info().rss / before - 1)


def test_memory_does_not_grow(pipe: Any) -> None:
    assert _grown(pipe, 700) < 0.05


@pytest.mark.slow
def test_memory_does_not_grow_over_ten_thousand_calls(pipe: Any) -> None:
    assert _grown(pipe, 10_000) < 0.05


# -- model, device, saving -------------------------------------------------------------------------------------------


def test_the_pipeline_can_be_saved(shared: Any, tmp_path: Path, same: Callable[..., None]) -> None:
    shared.save_pretrained(tmp_path / "saved")
    again = pipeline("text-classification", model=tmp_path / "saved")
    same(again("a good movie", top_k=None), shared("a good movie", top_k=None))
    transformers = pytest.importorskip("transformers")
    theirs = transformers.pipeline("text-classification", model=str(tmp_path / "saved"), device="cpu")
    same(shared("a good movie", top_k=None), theirs("a good movie", top_k=None))


def test_a_model_with_another_head_is_refused(folder: Path) -> None:
    model = formers.AutoModel.from_pretrained(folder)
    tokenizer = formers.AutoTokenizer.from_pretrained(folder)
    with pytest.raises(InputError, match=r"given a BertModel.*AutoModelForSequenceClassification"):
        pipeline("text-classification", model=model, tokenizer=tokenizer)


def test_the_model_is_in_evaluation_mode(folder: Path) -> None:
    model = formers.AutoModelForSequenceClassification.from_pretrained(folder).train()
    pipe = pipeline("text-classification", model=model, tokenizer=formers.AutoTokenizer.from_pretrained(folder))
    assert not model.training
    assert pipe("a good movie") == pipe("a good movie")


def test_gradients_are_not_recorded(shared: Any) -> None:
    shared("a good movie")
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in shared.model.parameters())


def test_what_a_pipeline_says_of_itself(shared: Any) -> None:
    assert shared.framework == "pt"
    assert shared.device == torch.device("cpu")
    assert shared.dtype == shared.torch_dtype == torch.float32
    assert repr(shared).startswith("TextClassificationPipeline(model=BertForSequenceClassification")


def test_scikit_names(shared: Any, texts: list[str], same: Callable[..., None]) -> None:
    same(shared.predict(texts[:2]), shared(texts[:2]))
    same(shared.transform(texts[:2]), shared(texts[:2]))
