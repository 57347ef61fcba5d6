"""A tokenizer with the ChatML template, a model that says what it is told to, and a small real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

import formers
from tests.generation.toy import Toy

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
END_OF_TEXT, START, END = range(3)


def chat_tokenizer() -> formers.PreTrainedTokenizerFast:
    """A token a byte. Its end of text is not what ends a turn."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine = Tokenizer(models.BPE({token: place for place, token in enumerate([*special, *alphabet])}, []))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens(special)
    return formers.PreTrainedTokenizerFast(
        tokenizer_object=engine, eos_token="<|endoftext|>", pad_token="<|endoftext|>", chat_template=CHATML
    )


class Scripted(Toy):
    """Answers each message with `answer(message)`, then ends the turn; `read` are the tokens of each of its calls."""

    def __init__(self, answer: Callable[[str], str], **config: Any) -> None:
        super().__init__(**config)
        self.config.name_or_path = "scripted"
        for name, value in config.items():
            setattr(self.config, name, value)
        self.tokenizer = chat_tokenizer()
        self.answer = answer
        self.read: list[int] = []
        self.seen = ""

    def logits(self, ids: Sequence[int]) -> Tensor:
        self.seen = self.tokenizer.decode(ids)
        *_, asked, _ = self.seen.rsplit("<|im_start|>", 2)
        answer = self.answer(asked.removeprefix("user\n").removesuffix("<|im_end|>\n"))
        already = list(reversed(ids)).index(START) - len("assistant\n")
        rest = self.tokenizer(answer)["input_ids"][already:]
        scores = torch.zeros(300)
        scores[rest[0] if rest else END] = 100.0
        return scores

    def __call__(self, input_ids: Tensor, *args: Any, **named: Any) -> Any:
        self.read.append(input_ids.shape[1])
        return super().__call__(input_ids, *args, **named)


def small_llama(folder: Path, positions: int = 512, **config: Any) -> Path:
    """A Llama of random weights with that tokenizer."""
    tokenizer = chat_tokenizer()
    formers.set_seed(0)
    values = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": positions,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": END_OF_TEXT,
        "pad_token_id": END_OF_TEXT,
    }
    formers.LlamaForCausalLM(formers.LlamaConfig(**{**values, **config})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
