"""Make a language model from nothing but text: a tokenizer, then BERT (masked words) or GPT-2 (next words).

    python recipes/pretrain.py bert --output DIR [--data FILE]
    python recipes/pretrain.py gpt2 --output DIR [--data FILE]

`--data` is a text file with one document a line (what follows a tab is left out); without it the texts are AG News,
from `datasets.load_dataset("ag_news")`. A tenth of the documents is held out. On them the model's perplexity is
compared with that of a unigram model, which knows how frequent each token is in the training text and nothing else.
OUTPUT has the model, its card and the curves (training.png) in the end. Takes minutes on a CPU.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from formers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DataCollatorForLanguageModeling,
    DataCollatorWithPacking,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

LENGTH = 128
WIDTH, LAYERS, HEADS = 256, 4, 4


def read_texts(data: Path | None) -> tuple[list[str], list[str]]:
    """The documents to train on, and those held out."""
    if data is None:
        from datasets import load_dataset

        texts = load_dataset("ag_news", split="train[:10000]")["text"]
    else:
        texts = [line.split("\t")[0].strip() for line in data.read_text(encoding="utf-8").splitlines()]
    texts = [text for text in texts if text]
    held = len(texts) // 10
    return texts[held:], texts[:held]


def bert_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerBase:
    """WordPiece, learned from the texts."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    empty = BertTokenizerFast(vocab={token: index for index, token in enumerate(special)}, model_max_length=LENGTH)
    return empty.train_new_from_iterator(texts, size)


def gpt2_tokenizer(texts: Sequence[str], size: int) -> PreTrainedTokenizerBase:
    """Byte-level BPE, learned from the texts."""
    vocabulary = {"<|endoftext|>": 0, "<|pad|>": 1}
    empty = GPT2TokenizerFast(vocab=vocabulary, merges=[], pad_token="<|pad|>", model_max_length=LENGTH)
    return empty.train_new_from_iterator(texts, size)


def bert_model(tokenizer: PreTrainedTokenizerBase) -> BertForMaskedLM:
    """A small BERT with new weights."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=LENGTH,
        pad_token_id=tokenizer.pad_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForMaskedLM(config)


def gpt2_model(tokenizer: PreTrainedTokenizerBase) -> GPT2LMHeadModel:
    """A small GPT-2 with new weights."""
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_positions=LENGTH,
        bos_token_id=end,
        eos_token_id=end,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return GPT2LMHeadModel(config)


def unigram_loss(train: Sequence[Sequence[int]], batches: Sequence[dict[str, Any]], size: int) -> float:
    """Mean negative log-probability (nats) of the batches' labels, by frequency in the training ids plus one."""
    counts = Counter(token for row in train for token in row)
    total = sum(counts.values()) + size
    labels = torch.cat([batch["labels"].flatten() for batch in batches])
    losses = [-math.log((counts[token] + 1) / total) for token in labels[labels >= 0].tolist()]
    return sum(losses) / len(losses)


def main() -> None:
    """Train tokenizer and model, and compare with the baseline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=["bert", "gpt2"])
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--data", type=Path, help="text file, one document a line")
    parser.add_argument("--vocabulary", type=int, default=4000, help="tokens that the tokenizer learns")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64, help="documents a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    set_seed(args.seed)
    bert = args.family == "bert"
    train, held = read_texts(args.data)
    tokenizer = (bert_tokenizer if bert else gpt2_tokenizer)(train, args.vocabulary)
    model = (bert_model if bert else gpt2_model)(tokenizer)
    ends = "" if bert else str(tokenizer.eos_token)
    train_ids, held_ids = (
        tokenizer([ends + text + ends for text in texts], truncation=True)["input_ids"] for texts in (train, held)
    )
    # One in three instead of BERT's one in seven: more to learn from each text.
    single = DataCollatorForLanguageModeling(tokenizer, mlm=bert, mlm_probability=0.3 if bert else None)
    collator = DataCollatorWithPacking(single, max_length=LENGTH, model=model)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(args.output),
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            warmup_ratio=0.1,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            eval_strategy="epoch",
            save_strategy="no",
            logging_steps=20,
            seed=args.seed,
        ),
        train_dataset=[{"input_ids": ids} for ids in train_ids],
        eval_dataset=[{"input_ids": ids} for ids in held_ids],
        data_collator=collator,
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model()
    loss = trainer.evaluate()["eval_loss"]
    labelled = [collator([{"input_ids": ids} for ids in held_ids])]
    baseline = unigram_loss(train_ids, labelled, len(tokenizer))
    print(f"held-out perplexity: {math.exp(loss):.1f}; a unigram model's: {math.exp(baseline):.1f}")
    print(f"the model, its card and its curves (training.png): {args.output}")


if __name__ == "__main__":
    main()
