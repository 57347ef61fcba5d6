"""PeftModel: a model with adapters, saved and loaded without the model's own weights."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from formers.adapters import files
from formers.adapters.config import LoraConfig
from formers.adapters.tuner import LoraModel
from formers.errors import InputError
from formers.hub.files import Source, resolve
from formers.models.keys import Place

logger = logging.getLogger("formers")
DEFAULT = "default"


def get_peft_model(
    model: nn.Module, peft_config: LoraConfig, adapter_name: str = DEFAULT, autocast_adapter_dtype: bool = True
) -> PeftModel:
    """Freeze a model and put a new adapter into it. Only the adapter trains, and only it is saved.

    `autocast_adapter_dtype`: the adapter is float32 where the model is in half precision.
    """
    return PeftModel(model, peft_config, adapter_name, autocast_adapter_dtype)


class PeftModel(nn.Module):
    """A model with one or more adapters. What this class does not have, it takes from the model.

    `weights` are those of the adapter under the names that files use; without them it is a new one.
    """

    def __init__(
        self,
        model: nn.Module,
        peft_config: LoraConfig,
        adapter_name: str = DEFAULT,
        autocast_adapter_dtype: bool = True,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(model, PeftModel):
            raise InputError("The model has adapters already.", "Use its add_adapter(name, config).")
        self.base_model = LoraModel(model)
        self._add(adapter_name, peft_config, autocast_adapter_dtype, weights)
        self.set_adapter(adapter_name, self.peft_config[adapter_name].inference_mode)
        self.train(model.training)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_model":
                raise
            return getattr(self.base_model, name)

    @property
    def forward(self) -> Callable[..., Any]:  # type: ignore[override]
        """The model's own forward: callers look at its arguments."""
        found: Callable[..., Any] = self.base_model.model.forward
        return found

    def get_base_model(self) -> Any:
        """The model itself, its layers adapted."""
        return self.base_model.model

    # -- adapters ------------------------------------------------------------------------------------------------

    @property
    def peft_config(self) -> dict[str, LoraConfig]:
        """The configuration of each adapter."""
        return {name: adapter.config for name, adapter in self.base_model.adapters.items()}

    @property
    def active_adapters(self) -> list[str]:
        """The adapters at work."""
        return list(self.base_model.active)

    @property
    def active_adapter(self) -> str:
        """The first adapter at work."""
        if not self.base_model.active:
            raise InputError("No adapter is at work.", "Call set_adapter(name).")
        return self.base_model.active[0]

    def set_adapter(self, adapter_name: str | Sequence[str], inference_mode: bool = False) -> None:
        """Put one adapter to work, or several: their changes add up. They train unless `inference_mode`."""
        self.base_model.set_adapter(adapter_name, inference_mode)

    def add_adapter(self, adapter_name: str, peft_config: LoraConfig, autocast_adapter_dtype: bool = True) -> None:
        """Make another adapter, to be put to work by `set_adapter`."""
        self._add(adapter_name, peft_config, autocast_adapter_dtype, None)

    def load_adapter(
        self,
        model_id: str | PathLike[str],
        adapter_name: str,
        is_trainable: bool = False,
        *,
        autocast_adapter_dtype: bool = True,
        subfolder: str = "",
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | PathLike[str] | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> None:
        """Load a saved adapter from a folder or the hub, to be put to work by `set_adapter`.

        `is_trainable` puts it to work at once, to be trained.
        """
        found = resolve(model_id, Source(revision, token, cache_dir, local_files_only, subfolder, force_download))
        self._add(adapter_name, LoraConfig.from_files(found), autocast_adapter_dtype, files.weights(found))
        if is_trainable:
            self.set_adapter(adapter_name)

    @classmethod
    def from_pretrained(
        cls,
        model: nn.Module,
        model_id: str | PathLike[str],
        adapter_name: str = DEFAULT,
        is_trainable: bool = False,
        config: LoraConfig | None = None,
        *,
        autocast_adapter_dtype: bool = True,
        subfolder: str = "",
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | PathLike[str] | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> PeftModel:
        """A model with a saved adapter, from a folder or the hub. The adapter is frozen unless `is_trainable`."""
        found = resolve(model_id, Source(revision, token, cache_dir, local_files_only, subfolder, force_download))
        config = replace(config or LoraConfig.from_files(found), inference_mode=not is_trainable)
        return cls(model, config, adapter_name, autocast_adapter_dtype, files.weights(found))

    def _add(self, name: str, config: LoraConfig, full: bool, weights: Mapping[str, Tensor] | None) -> None:
        self.base_model.add(name, config, full_precision=full, also=files.parameter_keys(weights or {}))
        own = self.base_model.adapters[name].config
        if weights is None and "head.output.weight" not in self.base_model.adapters[name].copies:
            _warn_of_frozen_head(self.get_base_model())
        own.base_model_name_or_path = own.base_model_name_or_path or getattr(self, "name_or_path", None) or None
        if weights is not None:
            try:
                files.fill(self.base_model, name, weights)
            except BaseException:
                self.base_model.delete_adapter(name)
                if not self.base_model.adapters:
                    self.base_model.unload()
                raise

    # -- files ---------------------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        save_directory: str | PathLike[str],
        safe_serialization: bool = True,
        selected_adapters: Sequence[str] | None = None,
        is_main_process: bool = True,
        max_shard_size: int | str | None = None,
    ) -> None:
        """Write adapter_config.json and adapter_model.safetensors (or .bin), in peft's format.

        An adapter is one file, whatever `max_shard_size`.
        The adapter "default" goes into the folder itself, others into folders of their names there.
        """
        folder = Path(save_directory)
        if folder.is_file():
            raise InputError(f"{folder} is a file.", "Give the path of a folder to save into.")
        self.base_model.check(selected_adapters or ())
        for name in self._saved(selected_adapters) if is_main_process else ():
            files.save(self.base_model, name, self._folder(folder, name), safe_serialization)

    def load_pretrained(self, save_directory: str | PathLike[str]) -> None:
        """Give all adapters the weights that `save_pretrained` wrote for them: how a training goes on."""
        for name in self._saved(None):
            files.fill(self.base_model, name, files.weights(resolve(self._folder(Path(save_directory), name))))

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | bool | None = None) -> str:
        """Upload the adapters to the hub; returns the address of the commit."""
        from formers.hub.upload import upload_folder

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload_folder(folder, repo_id, private=private, token=token)

    def place(self, name: str) -> Place:
        """Where files would keep the parameter `name`, as the model says of its own."""
        return self.base_model.place_of(name.removeprefix("base_model.model."))

    def _saved(self, names: Sequence[str] | None) -> list[str]:
        return list(self.base_model.adapters if names is None else names)

    @staticmethod
    def _folder(folder: Path, name: str) -> Path:
        return folder if name == DEFAULT else folder / name

    # -- numbers -------------------------------------------------------------------------------------------------

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """How many numbers train, and how many there are."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)

    def print_trainable_parameters(self) -> None:
        """Print how many numbers train."""
        trained, total = self.get_nb_trainable_parameters()
        print(f"trainable params: {trained:,d} || all params: {total:,d} || trainable%: {100 * trained / total:.4f}")  # noqa: T201


def _warn_of_frozen_head(model: nn.Module) -> None:
    head = str(getattr(model, "head_name", ""))
    if head.endswith(("Classification", "QuestionAnswering", "MultipleChoice")):
        logger.warning(
            "The head of %s stays as it is. If it is new, train it: give LoraConfig a task_type or modules_to_save.",
            type(model).__name__,
        )


def get_peft_model_state_dict(model: PeftModel, adapter_name: str = DEFAULT) -> dict[str, Tensor]:
    """An adapter's tensors under the names that files use."""
    model.base_model.check([adapter_name])
    return files.tensors_of(model.base_model, adapter_name)


def set_peft_model_state_dict(model: PeftModel, state_dict: Mapping[str, Tensor], adapter_name: str = DEFAULT) -> None:
    """Give an adapter tensors under the names that files use."""
    model.base_model.check([adapter_name])
    files.fill(model.base_model, adapter_name, state_dict)
