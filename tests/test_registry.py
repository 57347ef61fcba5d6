"""The public names: all there, all documented, and cheap to import."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import peft
import pytest
import transformers

import formers
from formers.errors import ConfigError
from formers.models.auto import definition, model_class
from formers.models.base import PreTrainedModel
from formers.registry import AUTO_CLASSES, FAMILIES, TASK_ALIASES, TASKS, TOKENIZERS, public_names

NAMES = public_names()
# What the reference has no name for, or has none any more.
OURS_ALONE = {
    "BestRun",
    "BloomTokenizer",
    "BloomTokenizerFast",
    "DataCollatorForWholeWordMask",
    "DataCollatorWithPacking",
    "ModelSpec",
    "QuestionAnsweringPipeline",
    "SummarizationPipeline",
    "Text2TextGenerationPipeline",
    "TranslationPipeline",
}


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(formers, name)
    assert value is getattr(import_module(NAMES[name]), name)
    assert value.__doc__
    assert name in dir(formers)
    assert name in formers.__all__


@pytest.mark.parametrize("name", sorted(set(NAMES) - OURS_ALONE))
def test_public_names_are_the_references(name: str) -> None:
    assert hasattr(peft if NAMES[name].startswith("formers.adapters") else transformers, name)


@pytest.mark.parametrize(("model_type", "head"), [(m, h) for m, f in FAMILIES.items() for h in f.heads])
def test_model_classes(model_type: str, head: str) -> None:
    name = FAMILIES[model_type].class_name(head)
    cls = getattr(formers, name)
    assert cls is model_class(model_type, head)
    assert issubclass(cls, PreTrainedModel)
    assert (cls.__name__, cls.__qualname__) == (name, name)
    assert getattr(sys.modules[cls.__module__], name) is cls
    assert cls.config_class is getattr(formers, FAMILIES[model_type].prefix + "Config")
    assert cls.config_class.model_type == model_type


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_head_of_the_reference_is_offered(model_type: str) -> None:
    prefix = FAMILIES[model_type].prefix
    theirs = {
        name
        for name in dir(transformers)
        if name.startswith((prefix + "For", prefix + "LMHead")) or name == prefix + "Model"
    }
    assert {name for name in theirs if name not in NAMES} == set()


def test_tables_name_each_other() -> None:
    offered = {head for family in FAMILIES.values() for head in family.heads}
    assert {head for heads in AUTO_CLASSES.values() for head in heads} <= offered
    assert {family.tokenizer for family in FAMILIES.values()} <= {*TOKENIZERS, "PreTrainedTokenizerFast"}
    assert {task.auto for task in TASKS.values()} <= set(AUTO_CLASSES)
    assert set(TASK_ALIASES.values()) <= set(TASKS)
    for model_type in FAMILIES:
        assert definition(model_type).config.model_type == model_type


def test_names_that_are_not_public() -> None:
    with pytest.raises(AttributeError, match="module 'formers' has no attribute 'BertForEverything'"):
        _ = formers.BertForEverything
    with pytest.raises(AttributeError, match="has no attribute 'BertForEverything'"):
        _ = import_module("formers.models.auto").BertForEverything


def test_unknown_model_types() -> None:
    with pytest.raises(ConfigError, match=r"'distillbert'.*Near names: distilbert"):
        definition("distillbert")
    with pytest.raises(ConfigError, match=r"'zzz'.*albert, bart, bert, blenderbot"):
        definition("zzz")


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import formers", "torch numpy transformers tokenizers huggingface_hub safetensors"),
        ("import formers.registry, formers.errors", "torch numpy json formers.configuration"),
        ("from formers import BertConfig, AutoConfig; BertConfig()", "transformers tokenizers huggingface_hub"),
        ("from formers import AutoModel, BertForMaskedLM", "transformers tokenizers huggingface_hub"),
    ],
)
def test_what_an_import_brings(code: str, absent: str) -> None:
    check = f"{code}; import sys; print([m for m in {absent.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
