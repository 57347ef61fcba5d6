"""Fine-tune SmolLM2 with LoRA on the style of a text: held-out perplexity before and after.

    python recipes/adapt.py --output DIR [--data FILE]

`--data` is a text file with one document a line (what follows a tab is left out), of which every tenth is held out;
without it the texts come from `datasets.load_dataset("fancyzhx/ag_news")`. OUTPUT has the adapter (in peft's format),
its card and the curves (training.png). Takes minutes on a CPU.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from formers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    LoraConfig,
    Trainer,
    TrainingArguments,
    get_peft_model,
    set_seed,
)

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
HELD = 10


def read_texts(data: Path | None, count: int) -> tuple[list[str], list[str]]:
    """Texts to train on, and those held out."""
    if data is None:
        from datasets import load_dataset

        texts = [row["text"] for row in load_dataset("fancyzhx/ag_news", split=f"train[:{count}]")]
    else:
        with open(data, encoding="utf-8") as file:
            texts = [line.rstrip("\n").split("\t")[0] for line in file][:count]
    texts = [text for text in texts if text.strip()]
    return [text for place, text in enumerate(texts) if place % HELD], texts[::HELD]


def main() -> None:
    """Adapt, and measure before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the adapter")
    parser.add_argument("--data", type=Path, help="text file, one document a line")
    parser.add_argument("--model", default=BASE, help="name or folder of a causal language model")
    parser.add_argument("--texts", type=int, default=2000, help="documents that are read, the held-out ones included")
    parser.add_argument("--length", type=int, default=96, help="tokens of a document at most")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    set_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    end = str(tokenizer.eos_token)
    train, held = (
        [
            {"input_ids": ids}
            for ids in tokenizer([text + end for text in texts], truncation=True, max_length=args.length)["input_ids"]
        ]
        for texts in read_texts(args.data, args.texts)
    )
    targets = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(task_type="CAUSAL_LM", r=args.rank, lora_alpha=2 * args.rank, target_modules=targets)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(args.model), config)
    model.print_trainable_parameters()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(args.output),
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            lr_scheduler_type="cosine",
            warmup_ratio=0.05,
            logging_steps=10,
            eval_strategy="steps",
            eval_steps=0.25,
            save_strategy="no",
            seed=args.seed,
        ),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        train_dataset=train,
        eval_dataset=held,
        processing_class=tokenizer,
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_model()
    trainer.create_model_card()
    print(f"held-out perplexity: {math.exp(before):.2f} before, {math.exp(after):.2f} after")
    print(f"the adapter, its card and its curves (training.png): {args.output}")


if __name__ == "__main__":
    main()
