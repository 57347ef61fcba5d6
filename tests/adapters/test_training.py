"""Adapters through the Trainer: they alone train and are saved, and a training goes on exactly."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import formers
from formers.training.optimization import decays
from tests.adapters.both import models, tensors, texts
from tests.training.small import model, rows, same_weights, trainer


def adapted(**config: Any) -> Any:
    """The same new adapter every time."""
    torch.manual_seed(0)
    return formers.get_peft_model(model(dropout=0.1), formers.LoraConfig(**{"task_type": "SEQ_CLS", **config}))


@pytest.mark.parametrize(
    "config", [{"lora_dropout": 0.2, "bias": "lora_only"}, {"target_modules": "all-linear", "bias": "all", "r": 3}]
)
def test_a_training_goes_on_exactly(tmp_path: Path, config: dict[str, Any]) -> None:
    made = adapted(**config)
    first = trainer(tmp_path, made, learning_rate=1e-2, save_strategy="steps", save_steps=3, save_total_limit=9)
    first.train()
    names = {path.name for path in (tmp_path / "checkpoint-3").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors"} <= names
    assert not names & {"model.safetensors", "config.json"}
    again = adapted(**config)
    second = trainer(tmp_path / "again", again, learning_rate=1e-2)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    same_weights(made, again)
    # A checkpoint is an adapter.
    last = formers.PeftModel.from_pretrained(model(), tmp_path / "checkpoint-10").eval()
    ids = torch.tensor([[1, 7, 8]])
    assert torch.equal(last(ids).logits, made.eval()(ids).logits)
    # The frozen model is as it was.
    same_weights(made.unload(), model())


def test_the_best_adapter_comes_back(tmp_path: Path) -> None:
    made = adapted()
    done = trainer(
        tmp_path,
        made,
        learning_rate=0.1,
        eval_dataset=rows(),
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
    )
    done.train()
    saved = tensors(Path(str(done.state.best_model_checkpoint)))
    assert all(torch.equal(saved[name], tensor) for name, tensor in formers.get_peft_model_state_dict(made).items())


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("bert", {"target_modules": ["query", "value"], "bias": "lora_only"}),
        ("modernbert", {"target_modules": ["Wqkv", "Wi"], "use_rslora": True}),
        ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    ],
)
def test_it_learns_as_in_peft(tmp_path: Path, model_type: str, config: dict[str, Any]) -> None:
    pair = models(model_type, "ForSequenceClassification")
    given = texts(pair, model_type)
    theirs = peft.get_peft_model(pair.reference, peft.LoraConfig(task_type="SEQ_CLS", **config)).eval()
    theirs.save_pretrained(tmp_path)
    own = formers.PeftModel.from_pretrained(pair.ours, tmp_path, is_trainable=True).eval()
    assert own.get_nb_trainable_parameters()[0] == theirs.get_nb_trainable_parameters()[0]
    histories = []
    for made in (theirs, own):
        optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=1e-2)
        history = []
        for _ in range(6):
            loss = made(input_ids=given.ids, attention_mask=given.mask, labels=torch.tensor([0, 2, 1, 1])).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            history.append(float(loss))
        histories.append(history)
    assert histories[1] == pytest.approx(histories[0], abs=1e-4)
    assert histories[0][-1] < histories[0][0]
    found = formers.get_peft_model_state_dict(own)
    for name, tensor in peft.get_peft_model_state_dict(theirs).items():
        torch.testing.assert_close(
            found[name], tensor, atol=2e-3, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_weight_decay_is_for_matrices_alone() -> None:
    made = adapted(bias="lora_only")
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert {name.rpartition(".")[2] for name in trained & decays(made)} == {"default", "weight"}
    assert {name.rpartition(".")[2] for name in trained - decays(made)} == {"bias"}


def test_wrong_labels_are_seen_through_the_adapter(tmp_path: Path) -> None:
    with pytest.raises(formers.errors.InputError, match="labels from 0 to 4; the model has 2 classes"):
        trainer(tmp_path, adapted(), train_dataset=rows(labels=5)).train()


def test_a_pipeline_takes_an_adapted_model(minilm: Path) -> None:
    tokenizer = formers.AutoTokenizer.from_pretrained(minilm)
    torch.manual_seed(0)
    base = formers.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=3)
    made = formers.get_peft_model(base, formers.LoraConfig(init_lora_weights=False, task_type="SEQ_CLS"))
    texts = ["It works.", "It works, and it is longer than the other one."]
    found = formers.pipeline("text-classification", model=made, tokenizer=tokenizer)(texts, top_k=None)
    merged = copy.deepcopy(made).merge_and_unload()
    expected = formers.pipeline("text-classification", model=merged, tokenizer=tokenizer)(texts, top_k=None)
    plain = formers.pipeline("text-classification", model=made.unload(), tokenizer=tokenizer)(texts, top_k=None)
    scores = [[answer["score"] for answer in answers] for answers in (*found, *expected, *plain)]
    assert scores[0] == pytest.approx(scores[2], abs=1e-5)
    assert scores[1] == pytest.approx(scores[3], abs=1e-5)
    assert scores[0] != pytest.approx(scores[4], abs=1e-4)


def test_masks_are_filled_by_an_adapted_model(minilm: Path) -> None:
    tokenizer = formers.AutoTokenizer.from_pretrained(minilm)
    torch.manual_seed(0)
    base = formers.AutoModelForMaskedLM.from_pretrained(minilm)
    made = formers.get_peft_model(base, formers.LoraConfig(init_lora_weights=False))
    found = formers.pipeline("fill-mask", model=made, tokenizer=tokenizer)("A [MASK] text.")
    expected = formers.pipeline("fill-mask", model=made.merge_and_unload(), tokenizer=tokenizer)("A [MASK] text.")
    assert [answer["token"] for answer in found] == [answer["token"] for answer in expected]


def test_an_adapted_model_generates() -> None:
    pair = models("gpt2", "LMHeadModel")
    made = formers.get_peft_model(pair.ours, formers.LoraConfig(init_lora_weights=False, task_type="CAUSAL_LM")).eval()
    prompt = torch.tensor([[5, 6, 7]])
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    found = made.generate(prompt, **settings)
    with made.disable_adapter():
        plain = made.generate(prompt, **settings)
    assert torch.equal(found, made.merge_and_unload().generate(prompt, **settings))
    assert not torch.equal(found, plain)
