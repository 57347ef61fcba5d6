"""The Trainer for models that generate: predictions may be what they write, in place of logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from formers.errors import InputError
from formers.training import preparation
from formers.training.arguments import Seq2SeqTrainingArguments
from formers.training.callbacks import TrainerCallback
from formers.training.data import Batch
from formers.training.evaluation import PredictionOutput
from formers.training.trainer import Trainer


class Seq2SeqTrainer(Trainer):
    """A Trainer whose evaluations and predictions generate with `predict_with_generate=True`.

    The model is any with a method `generate`. Predictions are its tokens, prompts included where the model's are,
    filled up with the padding token to the longest allowed; `generation_config` of the arguments becomes the model's.
    """

    args: Seq2SeqTrainingArguments

    def __init__(
        self,
        model: nn.Module | None = None,
        args: Seq2SeqTrainingArguments | None = None,
        data_collator: Callable[[list[Any]], Batch] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., nn.Module] | None = None,
        compute_loss_func: Callable[..., Tensor] | None = None,
        compute_metrics: Callable[..., Mapping[str, Any]] | None = None,
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, Any] = (None, None),
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        *,
        tokenizer: Any = None,
    ) -> None:
        args = args or Seq2SeqTrainingArguments("tmp_trainer")
        if not isinstance(args, Seq2SeqTrainingArguments):
            raise InputError(
                f"Seq2SeqTrainer got {type(args).__name__}.", "Pass Seq2SeqTrainingArguments: it has all its fields."
            )
        super().__init__(
            model,
            args,
            data_collator,
            train_dataset,
            eval_dataset,
            processing_class,
            model_init,
            compute_loss_func,
            compute_metrics,
            callbacks,
            optimizers,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            tokenizer=tokenizer,
        )
        if args.predict_with_generate and not hasattr(self.model, "generate"):
            raise InputError(
                f"predict_with_generate=True, and {type(self.model).__name__} has no generate.",
                "Use a model that generates, or leave predict_with_generate out.",
            )
        if args.generation_config is not None:
            self.model.generation_config = self.load_generation_config(args.generation_config)
        # Arguments of `generate` from the call of evaluate or predict that is under way.
        self._given: dict[str, Any] = {}

    @staticmethod
    def load_generation_config(gen_config_arg: Any) -> Any:
        """A GenerationConfig from itself, from its file, or from the name or folder of a model."""
        from formers.generation.config import GenerationConfig

        config = gen_config_arg
        if not isinstance(config, GenerationConfig):
            file = Path(str(config))
            source = (str(file.parent), file.name) if file.is_file() else (str(config),)
            config = GenerationConfig.from_pretrained(*source)
        config.validate(strict=True)
        return config

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        """Loss and metrics, these of what the model generates; `gen_kwargs` are arguments of its `generate`."""
        with self._generating(gen_kwargs):
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def predict(
        self,
        test_dataset: Any,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
        **gen_kwargs: Any,
    ) -> PredictionOutput:
        """What the model generates for a dataset, in its order; `gen_kwargs` are arguments of its `generate`."""
        with self._generating(gen_kwargs):
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def prediction_step(
        self, model: nn.Module, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor | None, Any, Any]:
        """Loss, generated tokens (examples, length) and labels of a batch."""
        if not self.args.predict_with_generate or prediction_loss_only:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs = self._prepare_inputs(inputs)
        loss, _, _ = super().prediction_step(model, inputs, True, ignore_keys)
        labels, started = inputs.get("labels"), inputs.get("decoder_input_ids")
        given = {name: value for name, value in inputs.items() if name not in self.label_names}
        if labels is not None and started is not None and labels.shape == started.shape:
            # Those that a collator made of the labels would tell the model what to write.
            given = {k: v for k, v in given.items() if k not in ("decoder_input_ids", "decoder_attention_mask")}
        settings = self._settings()
        writer: Any = model
        with torch.no_grad(), preparation.numerics(self.args):
            tokens = writer.generate(**given, **settings)
        return loss, self._filled(tokens, settings), labels

    @contextmanager
    def _generating(self, given: dict[str, Any]) -> Iterator[None]:
        outer = self._given
        self._given = {**outer, **given}
        try:
            yield
        finally:
            self._given = outer

    def _settings(self) -> dict[str, Any]:
        """The arguments of `generate`: those of the call, then those of the training."""
        values = {name: value for name, value in self._given.items() if value is not None}
        if "max_length" not in values and "max_new_tokens" not in values:
            values["max_length"] = self.args.generation_max_length
        values.setdefault("num_beams", self.args.generation_num_beams)
        return {name: value for name, value in values.items() if value is not None}

    def _filled(self, tokens: Tensor, settings: dict[str, Any]) -> Tensor:
        """Tokens filled up to the longest allowed, as the labels of metrics expect; as they are if none is known."""
        config = getattr(self.model, "generation_config", None)
        width = settings.get("max_length")
        if width is None and "max_new_tokens" not in settings:
            width = getattr(config, "max_length", None)
        if width is None or tokens.shape[1] >= width:
            return tokens
        found = (
            getattr(owner, name, None)
            for name in ("pad_token_id", "eos_token_id")
            for owner in (self.processing_class, config, self.model.config)
        )
        pad = next((int(value) for value in found if isinstance(value, int)), None)
        if pad is None:
            return tokens
        return nn.functional.pad(tokens, (0, width - tokens.shape[1]), value=pad)
