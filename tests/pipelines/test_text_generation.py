"""text-generation: the reference's answers, and what batches, chats and options do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import formers
from formers.errors import InputError, UnsupportedError
from formers.pipelines.text_generation import TextGenerationPipeline

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TEXTS = ["hello world", "the name", "x", "hello hello hello world and 123"]
CHAT = [{"role": "system", "content": "be old"}, {"role": "user", "content": "hello"}]
GREEDY: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}


def engine() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(['the name is and age of {"name": "x"} hello world 123 "'] * 5, trainer)
    return made


@pytest.fixture(scope="module")
def pipes(tmp_path_factory: pytest.TempPathFactory) -> tuple[TextGenerationPipeline, Any]:
    """The pipeline here, and the reference's with the same model."""
    transformers.set_seed(3)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=engine(), eos_token="<eos>", pad_token="<eos>", chat_template=TEMPLATE
    )
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 200, "initializer_range": 0.4}
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, **sizes)
    )
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    theirs = transformers.pipeline("text-generation", model=model.eval(), tokenizer=tokenizer, device="cpu")
    return formers.pipeline("text-generation", model=str(folder), device="cpu"), theirs


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_full_text": False},
        {"return_tensors": True},
        {"num_beams": 3, "num_return_sequences": 2},
        {"prefix": "the ", "return_full_text": False},
        {"repetition_penalty": 1.5, "skip_special_tokens": False},
        {"stop_sequence": "e"},
    ],
    ids=str,
)
def test_answers_are_the_references(pipes: Any, options: dict[str, Any]) -> None:
    mine, theirs = pipes
    for text in TEXTS[:3]:
        assert mine(text, **GREEDY, **options) == theirs(text, **GREEDY, **options)


def test_chats_are_the_references(pipes: Any) -> None:
    mine, theirs = pipes
    started = [*CHAT, {"role": "assistant", "content": "the "}]
    for chat in (CHAT, started):
        assert mine(chat, **GREEDY) == theirs(chat, **GREEDY)
        assert mine(chat, return_full_text=False, **GREEDY) == theirs(chat, return_full_text=False, **GREEDY)
    assert mine([CHAT, started], **GREEDY) == theirs([CHAT, started], **GREEDY)
    assert mine(started, continue_final_message=False, **GREEDY)[0]["generated_text"][:-1] == started


def test_the_notes_snippet(pipes: Any) -> None:
    mine, _ = pipes
    pipe = formers.pipeline(
        "text-generation",
        model=mine.model.name_or_path,
        tokenizer=mine.tokenizer,
        torch_dtype=torch.bfloat16,
        trust_remote_code=True,
        device_map="auto",
    )
    made = pipe(
        "hello world",
        max_length=40,
        do_sample=True,
        top_k=10,
        num_return_sequences=1,
        pad_token_id=mine.tokenizer.eos_token_id,
    )
    assert [seq["generated_text"][:11] for seq in made] == ["hello world"]
    assert pipe.dtype == torch.bfloat16
    ids = pipe("hello world", max_length=40, seed=1, return_tensors=True)[0]["generated_token_ids"]
    assert len(ids) <= 40
    assert pipe("hello", return_type=1, **GREEDY) == pipe("hello", return_full_text=False, **GREEDY)


def test_lists_and_streams_answer_as_texts_alone(pipes: Any) -> None:
    mine, _ = pipes
    for options in (GREEDY, {"max_new_tokens": 12, "seed": 4}, {"max_length": 30, "seed": 4}):
        alone = [mine(text, **options) for text in TEXTS]
        assert mine(TEXTS, **options) == alone
        assert mine(TEXTS, batch_size=2, **options) == alone
        assert list(mine(iter(TEXTS), **options)) == alone
        assert list(mine.stream(TEXTS, **options)) == alone


def test_prompts_of_a_list_share_steps(pipes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, _ = pipes
    calls: list[int] = []
    forward = type(mine.model).forward

    def counted(self: Any, *args: Any, **named: Any) -> Any:
        calls.append(len(args[0]))
        return forward(self, *args, **named)

    monkeypatch.setattr(type(mine.model), "forward", counted)
    mine(TEXTS, **GREEDY)
    assert len(calls) <= 12
    assert calls[0] == 4


def test_defaults_sample_a_new_text_each_time(pipes: Any) -> None:
    mine, _ = pipes
    formers.set_seed(1)
    first, second = (mine("hello", max_new_tokens=20) for _ in range(2))
    assert first != second
    formers.set_seed(1)
    assert mine("hello", max_new_tokens=20) == first
    assert len(mine("hello", num_return_sequences=3, max_new_tokens=5)) == 3
    pipe = formers.pipeline("text-generation", model=mine.model, tokenizer=mine.tokenizer, max_new_tokens=5, seed=2)
    assert pipe("hello") == mine("hello", max_new_tokens=5, seed=2)
    assert pipe("hello", max_length=4) == mine("hello", max_length=4, seed=2)


def test_text_while_it_is_made_and_constraints(pipes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    mine, _ = pipes
    streamer = formers.TextStreamer(mine.tokenizer, skip_prompt=True, skip_special_tokens=True)
    (made,) = mine("hello", streamer=streamer, return_full_text=False, **GREEDY)
    assert capsys.readouterr().out == made["generated_text"] + "\n"
    (answer,) = mine("hello", regex="[ab]{3}c", return_full_text=False, max_new_tokens=9)
    assert len(answer["generated_text"]) == 4
    fast = mine(TEXTS, prompt_lookup_num_tokens=3, **GREEDY)
    assert fast == mine(TEXTS, **GREEDY)


def test_prompts_at_the_edges(pipes: Any) -> None:
    mine, _ = pipes
    assert mine("", **GREEDY)[0]["generated_text"]
    long = "hello " * 300
    with pytest.raises(InputError, match="takes at most 200"):
        mine(long, **GREEDY)
    (made,) = mine(long, handle_long_generation="hole", return_full_text=False, **GREEDY)
    assert len(made["generated_text"]) > 0
    with pytest.raises(InputError, match="max_length=2 counts the prompt"):
        mine("hello world 123", max_length=2)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_new_token": 3}, "no option 'max_new_token'"),
        ({"return_full_text": True, "return_tensors": True}, "Both return_full_text and return_tensors"),
        ({"return_type": 7}, "return_type=7"),
        ({"handle_long_generation": "cut"}, "handle_long_generation='cut'"),
        ({"num_return_sequences": 2, "do_sample": False}, "greedy search"),
        ({"penalty_alpha": 0.6}, "penalty_alpha=0.6"),
    ],
)
def test_options_that_cannot_be(pipes: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises((InputError, UnsupportedError), match=problem):
        pipes[0]("hello", **options)


def test_inputs_that_cannot_be(pipes: Any) -> None:
    with pytest.raises(InputError, match="of type int"):
        pipes[0]([3])

    def endless() -> Iterator[str]:
        while True:
            yield "hello"

    assert next(pipes[0](endless(), **GREEDY)) == pipes[0]("hello", **GREEDY)


def test_an_interrupt_ends_the_whole_call(pipes: Any) -> None:
    mine, _ = pipes
    seen: list[int] = []

    def interrupt(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(len(ids))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return scores

    with pytest.raises(KeyboardInterrupt):
        mine(TEXTS, batch_size=2, logits_processor=[interrupt], **GREEDY)
    assert len(seen) == 3, "the next prompts followed"
