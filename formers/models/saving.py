"""Writing models, under the names that checkpoints use."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from formers.configuration import CONFIG_NAME
from formers.errors import InputError
from formers.hub.atomic import write_json
from formers.hub.int8 import quantize
from formers.hub.weights import save_weights
from formers.models import keys, quantization
from formers.models.loading import INT8

if TYPE_CHECKING:
    from formers.models.base import PreTrainedModel


def save(
    model: PreTrainedModel,
    save_directory: str | PathLike[str],
    state_dict: Mapping[str, Tensor] | None = None,
    max_shard_size: int | str = "50GB",
    safe_serialization: bool = True,
    variant: str | None = None,
    quantized: str | None = None,
) -> None:
    """Write configuration and weights into a folder; weights first, so that a folder with a new config is complete."""
    folder = Path(save_directory)
    if folder.is_file():
        raise InputError(f"{folder} is a file.", "Give the path of a folder to save into.")
    if quantized not in (None, "int8"):
        raise InputError(f"save_quantized={quantized!r} is unknown.", "Use 'int8' or leave it out.")
    if quantized and model.quantization is not None:
        raise InputError(f"The model is quantized; save_quantized={quantized!r} was given.", "Leave it out.")
    if state_dict is None and any(parameter.is_meta for parameter in model.parameters()):
        raise InputError("Parts of the model are offloaded.", "Load it without device_map to save it.")
    tensors = checkpoint_tensors(model, state_dict)
    config = {name: value for name, value in model.config.to_dict().items() if value is not None}
    config["architectures"] = [type(model).__name__]
    config["dtype"] = str(model.dtype).removeprefix("torch.")
    if quantized:
        tensors = quantize(tensors)
        config["quantization_config"] = INT8
    elif model.quantization is not None:
        config["quantization_config"] = model.quantization.as_dict()
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(tensors, folder, max_shard_size=max_shard_size, safe_serialization=safe_serialization, variant=variant)
    model.write_settings(folder)
    write_json(folder / CONFIG_NAME, config, sort_keys=True)


def checkpoint_tensors(model: PreTrainedModel, state_dict: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The model's tensors under the names of checkpoints, tied ones once."""
    tied = model.ties()
    given = state_dict or {**model.state_dict(), **quantization.stored(model)}
    own = {name: tensor for name, tensor in given.items() if name not in tied}
    written = keys.write(own, model.place, copies=bool(model.tied) and not tied)
    unsaved = model.definition.unsaved.get(model.head_name, ())
    return {key: tensor for key, tensor in written.items() if not any(fnmatchcase(key, name) for name in unsaved)}


def push(model: PreTrainedModel, repo_id: str, private: bool | None, token: str | bool | None) -> str:
    """Upload configuration and weights to the hub."""
    from formers.hub.upload import upload_folder

    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
        return upload_folder(folder, repo_id, private=private, token=token)
