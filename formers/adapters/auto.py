"""From the name of an adapter to its model: the adapter's configuration says which one it stands on."""

from __future__ import annotations

from os import PathLike
from typing import Any, ClassVar

from formers.adapters.config import LoraConfig
from formers.adapters.model import DEFAULT, PeftModel
from formers.errors import InputError


class AutoPeftModel:
    """Loads an adapter together with the bare model that it was made for."""

    auto_class: ClassVar[str] = "AutoModel"

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        adapter_name: str = DEFAULT,
        is_trainable: bool = False,
        config: LoraConfig | None = None,
        **model_options: Any,
    ) -> PeftModel:
        """The model that adapter_config.json names, with the adapter; `model_options` go to the model's loading."""
        from formers.models import auto

        found = config or LoraConfig.from_pretrained(pretrained_model_name_or_path)
        if not found.base_model_name_or_path:
            raise InputError(
                f"The configuration of {str(pretrained_model_name_or_path)!r} names no base model.",
                "Load the model, then PeftModel.from_pretrained(model, adapter).",
            )
        load = getattr(auto, cls.auto_class).from_pretrained
        model = load(found.base_model_name_or_path, **{"revision": found.revision, **model_options})
        return PeftModel.from_pretrained(model, pretrained_model_name_or_path, adapter_name, is_trainable, config)


class AutoPeftModelForCausalLM(AutoPeftModel):
    """Loads an adapter with its language model."""

    auto_class = "AutoModelForCausalLM"


class AutoPeftModelForFeatureExtraction(AutoPeftModel):
    """Loads an adapter with its bare model."""


class AutoPeftModelForQuestionAnswering(AutoPeftModel):
    """Loads an adapter with its model for question answering."""

    auto_class = "AutoModelForQuestionAnswering"


class AutoPeftModelForSequenceClassification(AutoPeftModel):
    """Loads an adapter with its classifier of texts."""

    auto_class = "AutoModelForSequenceClassification"


class AutoPeftModelForTokenClassification(AutoPeftModel):
    """Loads an adapter with its classifier of tokens."""

    auto_class = "AutoModelForTokenClassification"
