"""Text while it is made: streamers, the iterator, errors, interrupts and time."""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import Any

import pytest
import torch

import formers
from formers.errors import InputError
from formers.generation import generate, stream_text
from tests.generation.toy import Toy


class Words(Toy):
    """Goes on with a given text, then <eos>."""

    def __init__(self, tokenizer: Any, text: str) -> None:
        super().__init__(vocabulary=len(tokenizer), eos=0)
        self.text = [*tokenizer(text)["input_ids"], 0]
        self.start = 0
        self.error: BaseException | None = None

    def logits(self, ids: Any) -> torch.Tensor:
        place = len(ids) - self.start
        if self.error is not None and place == 3:
            raise self.error
        scores = torch.zeros(len(self.table[0]))
        scores[self.text[min(place, len(self.text) - 1)]] = 5.0
        return scores


TEXT = "hello the 世界 is naïve 🙂 and\nold"


@pytest.fixture
def model(tokenizer: Any) -> Words:
    made = Words(tokenizer, TEXT)
    made.start = len(tokenizer("name")["input_ids"])
    return made


def prompt(tokenizer: Any) -> torch.Tensor:
    return torch.tensor([tokenizer("name")["input_ids"]])


def test_printing(tokenizer: Any, model: Words, capsys: pytest.CaptureFixture[str]) -> None:
    streamer = formers.TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    for _ in range(2):
        generate(model, prompt(tokenizer), max_new_tokens=90, streamer=streamer)
        assert capsys.readouterr().out == TEXT + "\n"
    generate(model, prompt(tokenizer), max_new_tokens=90, streamer=formers.TextStreamer(tokenizer))
    assert capsys.readouterr().out == "name" + TEXT + "<eos>\n"


def test_iterating_in_another_thread(tokenizer: Any, model: Words) -> None:
    streamer = formers.TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=20)
    arguments = {"max_new_tokens": 90, "streamer": streamer}
    thread = Thread(target=generate, args=(model, prompt(tokenizer)), kwargs=arguments)
    thread.start()
    pieces = list(streamer)
    thread.join()
    assert "".join(pieces) == TEXT
    assert len(pieces) > 4
    assert not any("\ufffd" in piece for piece in pieces)


def test_iterating_with_async_for(tokenizer: Any, model: Words) -> None:
    async def read(error: BaseException | None = None) -> str:
        streamer = formers.AsyncTextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=20)
        model.error = error
        work = asyncio.to_thread(generate, model, prompt(tokenizer), max_new_tokens=90, streamer=streamer)
        task = asyncio.create_task(work)
        try:
            return "".join([piece async for piece in streamer])
        finally:
            await asyncio.gather(task, return_exceptions=True)

    assert asyncio.run(read()) == TEXT
    with pytest.raises(ZeroDivisionError, match="here"):
        asyncio.run(read(ZeroDivisionError("here")))


def test_an_exception_reaches_the_reader(tokenizer: Any, model: Words) -> None:
    streamer = formers.TextIteratorStreamer(tokenizer, timeout=20)
    model.error = ZeroDivisionError("in the model")
    raised = []

    def work() -> None:
        try:
            generate(model, prompt(tokenizer), max_new_tokens=90, streamer=streamer)
        except ZeroDivisionError as error:
            raised.append(error)

    thread = Thread(target=work)
    thread.start()
    with pytest.raises(ZeroDivisionError, match="in the model"):
        list(streamer)
    thread.join()
    assert raised
    with pytest.raises(InputError, match="no setting 'max_new'"):
        generate(model, prompt(tokenizer), max_new=3, streamer=formers.TextIteratorStreamer(tokenizer))


def test_a_plain_iterator_of_text(tokenizer: Any, model: Words) -> None:
    pieces = list(stream_text(model, tokenizer, "name", max_new_tokens=90))
    assert "".join(pieces) == TEXT
    assert len(pieces) > 10
    # It may be left at any time.
    assert next(iter(stream_text(model, tokenizer, "name", max_new_tokens=90))) == pieces[0]


def test_an_interrupt_ends_with_what_there_is(tokenizer: Any, model: Words) -> None:
    model.error = KeyboardInterrupt()
    made = generate(model, prompt(tokenizer), max_new_tokens=90)
    assert made[0].tolist() == [*prompt(tokenizer)[0].tolist(), *model.text[:3]]


@pytest.mark.parametrize("beams", [1, 2])
def test_time(beams: int) -> None:
    made = generate(Toy(), [[5, 6], [7]], max_new_tokens=100_000, max_time=1e-9, num_beams=beams)
    assert made.shape == (2, 3)
    criteria = [formers.MaxTimeCriteria(1e-9)]
    assert generate(Toy(), [[5, 6]], max_new_tokens=100_000, stopping_criteria=criteria).shape == (1, 3)


@pytest.mark.parametrize("stop", ["is", "世", "naïve", "o the", " and\n", "ve 🙂", "<eos>"])
def test_stop_strings(tokenizer: Any, model: Words, stop: str) -> None:
    made = generate(model, prompt(tokenizer), max_new_tokens=90, stop_strings=[stop, "zzz"], tokenizer=tokenizer)
    text = tokenizer.decode(made[0, model.start :])
    before = tokenizer.decode(made[0, model.start : -1])
    assert stop in text
    assert stop not in before


def test_one_text_at_a_time(tokenizer: Any, model: Words) -> None:
    with pytest.raises(InputError, match="got 2 texts"):
        generate(model, prompt(tokenizer).repeat(2, 1), max_new_tokens=3, streamer=formers.TextStreamer(tokenizer))
    with pytest.raises(InputError, match="with beams"):
        generate(model, prompt(tokenizer), num_beams=2, streamer=formers.TextStreamer(tokenizer))


def test_criteria_by_themselves(tokenizer: Any) -> None:
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert formers.MaxLengthCriteria(3)(ids).tolist() == [True, True]
    assert formers.EosTokenCriteria([3, 9])(ids).tolist() == [True, False]
    both = formers.StoppingCriteriaList([formers.MaxLengthCriteria(4), formers.EosTokenCriteria(6)])
    assert both(ids).tolist() == [False, True]
    assert both.max_length == 4
    assert not formers.MaxTimeCriteria(1000)(ids).any()
    with pytest.raises(InputError, match="answered with a int"):
        formers.StoppingCriteriaList([lambda ids, scores: 3])(ids)
