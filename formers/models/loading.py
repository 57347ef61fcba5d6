"""From a name to a model with its weights: built without memory, filled from mapped files, checked by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from formers.configuration import PreTrainedConfig
from formers.errors import CheckpointError, ConfigError, InputError, UnsupportedError
from formers.hub.files import ModelFiles, Source, resolve
from formers.hub.gguf_blocks import Blocks
from formers.hub.int8 import Dequantized
from formers.hub.weights import Weights, open_weights
from formers.layers.int8 import per_row
from formers.layers.linear import Stored
from formers.layers.norms import RMSNorm
from formers.layers.positions import StoredSinusoids, sinusoids
from formers.models import keys, placement, quantization
from formers.models.keys import Place

if TYPE_CHECKING:
    from formers.models.base import PreTrainedModel

logger = logging.getLogger("formers")
_Model = TypeVar("_Model", bound="PreTrainedModel")
_DTYPES = {"float32", "float16", "bfloat16", "float64"}
INT8 = {"quant_method": "int8-per-channel"}


@dataclass(frozen=True)
class Options:
    """How to load, as `PreTrainedModel.from_pretrained` describes."""

    source: Source = field(default_factory=Source)
    dtype: str | torch.dtype | None = None
    device_map: placement.DeviceMap | None = None
    max_memory: Mapping[Any, int | str] | None = None
    offload_folder: str | PathLike[str] | None = None
    offload_buffers: bool = False
    attn_implementation: Any = None
    ignore_mismatched_sizes: bool = False
    state_dict: Mapping[str, Tensor] | None = None
    use_safetensors: bool | None = None
    weights_only: bool = True
    variant: str | None = None
    quantize: str | None = None


@dataclass
class LoadingInfo:
    """Tensors of the model that no file had, tensors of the files without use, and those of another shape.

    All by the names that files use.
    """

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Under the names of `output_loading_info`."""
        return {
            "missing_keys": self.missing,
            "unexpected_keys": self.unexpected,
            "mismatched_keys": self.mismatched,
            "error_msgs": [],
        }


@dataclass
class StateDict:
    """A state dict as a view of weights."""

    tensors: Mapping[str, Tensor]

    def keys(self) -> list[str]:
        """The names of all weights."""
        return list(self.tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one weight."""
        return tuple(self.tensors[key].shape)

    def dtype(self, key: str) -> torch.dtype:
        """The data type of one weight."""
        return self.tensors[key].dtype

    def tensor(self, key: str) -> Tensor:
        """One weight."""
        return self.tensors[key]

    def blocks(self, key: str) -> None:
        """None: these are plain tensors."""


def same_value(name: str, value: Any, other_name: str, other: Any) -> Any:
    """The one value of an argument that has two spellings."""
    if value is not None and other is not None and value != other:
        raise InputError(f"{name}={value!r} contradicts {other_name}={other!r}.", f"Pass only {name}.")
    return other if value is None else value


def load(
    cls: type[_Model],
    name: str | PathLike[str] | None,
    config: PreTrainedConfig | str | PathLike[str] | None,
    options: Options,
    overrides: Mapping[str, Any],
) -> tuple[_Model, LoadingInfo]:
    """A model of class `cls` with the weights of `name`, in evaluation mode, and what did not fit."""
    if not options.weights_only:
        raise UnsupportedError(
            "weights_only=False would run code from the file.", "Leave it out: tensors load without it."
        )
    device = placement.main_device(options.device_map, options.max_memory)
    files = resolve(name, options.source) if name is not None else None
    config = _config(cls, files, config, options, overrides)
    config.name_or_path = str(name or "")
    bits = quantization.wanted(options.quantize, config)
    weights = _weights(files, config, options)
    if bits is not None:
        spread = options.max_memory is not None or isinstance(options.device_map, Mapping)
        quantization.check_options(options.dtype, device, spread)
    dtype = torch.float32 if bits is not None else _dtype(options.dtype, config, weights, device)
    with torch.device("meta"):
        model = cls(config)
        if bits is not None:
            model.quantization = quantization.prepare(model, bits)
    places = placement.spread(model, options.device_map, options.max_memory, dtype, device)
    if places is not None:
        placement.check_means(places, options.offload_folder)
    first = device if places is None else torch.device("cpu")
    info = fill(model, weights, dtype, first, ignore_mismatched=options.ignore_mismatched_sizes)
    if places is not None:
        placement.dispatch(model, places, device, options.offload_folder, options.offload_buffers)
    model.config.dtype = str(dtype).removeprefix("torch.")
    model.set_attn_implementation(options.attn_implementation or config.attn_implementation)
    if bits is not None:
        model.requires_grad_(False)
    _report(model, info)
    if files is not None:
        model.read_settings(files)
    return model.eval(), info


def build(
    cls: type[_Model],
    config: PreTrainedConfig,
    dtype: str | torch.dtype | None = None,
    attn_implementation: Any = None,
) -> _Model:
    """A model with new random weights."""
    model = cls(config).to(_dtype(dtype, config, None, torch.device("cpu")))
    if attn_implementation is not None:
        model.set_attn_implementation(attn_implementation)
    return model


def fill(
    model: PreTrainedModel,
    weights: Weights,
    dtype: torch.dtype,
    device: torch.device,
    *,
    ignore_mismatched: bool = False,
) -> LoadingInfo:
    """Give every tensor of a model on the meta device its values from `weights`, or random ones where it has none."""
    info = LoadingInfo()
    find = Finder(model, weights.keys())
    model.untied.update(_apart(model, find, weights))
    tied = model.ties()
    new: list[str] = []
    kinds = {} if model.quantization is None else model.quantization.kinds(model)
    scales: dict[str, Tensor] = {}
    for name in [name for name in model.state_dict() if name not in tied]:
        where = find(name) or next(
            filter(None, (find(other) for other, origin in tied.items() if origin == name)), None
        )
        target = model.get_parameter(name)
        found = scales.get(name) if where is None else keys.read(where, weights.tensor(where.key))
        blocks: Blocks | None = None
        if found is not None and name in kinds:
            found, blocks = quantization.read_blocks(found, kinds[name], target.shape, name)
        elif found is not None and where is not None and not where.transpose:
            stored = weights.blocks(where.key)
            blocks = None if stored is None else stored.moved(partial(keys.read, where))
        if found is not None and target.dtype is torch.int8 and found.is_floating_point():
            found, scales[f"{name}_scale"] = per_row(found)
        if found is None:
            info.missing.extend(
                {key for key in [model.place(name).key] if not _optional(model, key)} - set(info.missing)
            )
        elif found.shape != target.shape:
            info.mismatched.append((model.place(name).key, tuple(found.shape), tuple(target.shape)))
            found = None
        if found is None:
            if target.dtype is torch.int8:
                raise quantization.absent(model.place(name).key)
            new.append(name)
            tensor = torch.empty(target.shape, dtype=dtype, device=device)
        else:
            tensor = found.to(device=device, dtype=dtype if found.is_floating_point() else found.dtype)
        parameter = nn.Parameter(tensor, requires_grad=target.requires_grad)
        _assign(model, name, parameter)
        if found is not None and blocks is not None and tensor.dtype == torch.float32:
            model.blocks[name] = Stored.of(parameter, blocks)
    if info.mismatched and not ignore_mismatched:
        shapes = "; ".join(f"{n} is {file} in the file, {own} in the model" for n, file, own in info.mismatched[:5])
        raise CheckpointError(
            f"{len(info.mismatched)} weights have another shape: {shapes}.",
            "Correct the configuration (num_labels, for example), or pass ignore_mismatched_sizes=True for new ones.",
        )
    info.unexpected = find.unused(tied)
    model.tie_weights()
    initialise(model, new)
    return info


def _apart(model: PreTrainedModel, find: Finder, weights: Weights) -> Iterable[str]:
    """The tied parameters that a checkpoint has twice, with different values."""
    for name, origin in model.ties().items():
        own, shared = find(name), find(origin)
        if own is None or shared is None or own == shared:
            continue
        first, second = (keys.read(where, weights.tensor(where.key)) for where in (own, shared))
        same = first.shape == second.shape and first.dtype == second.dtype
        if not same or (first.data_ptr() != second.data_ptr() and not torch.equal(first, second)):
            yield name


class Finder:
    """Finds the tensors of a model among the keys of a checkpoint, with or without the base model's prefix."""

    def __init__(self, model: PreTrainedModel, file_keys: Iterable[str]) -> None:
        self.model = model
        self.rules = model.rules()
        self.prefix = model.base_model_prefix + "."
        self.spelling = {keys.modern(key): key for key in file_keys}
        self.used: set[str] = set()

    def __call__(self, name: str) -> Place | None:
        """Where the model's tensor lies, None if the checkpoint has none."""
        where = keys.place(name, self.rules)
        held = [key for key in (*self._spellings(where.copy), *self._spellings(where.key)) if key in self.spelling]
        self.used.update(held)
        return replace(where, key=self.spelling[held[0]]) if held else None

    def _spellings(self, key: str | None) -> tuple[str, ...]:
        return () if key is None else (key, key.removeprefix(self.prefix), self.prefix + key)

    def unused(self, tied: Iterable[str]) -> list[str]:
        """The checkpoint's keys that belong to nothing in the model."""
        known = {key for name in tied for key in self._spellings(keys.place(name, self.rules).key)}
        patterns = self.model.definition.ignored
        rest = [key for key in self.spelling if key not in self.used and key not in known]
        return [self.spelling[key] for key in rest if not any(fnmatchcase(key, pattern) for pattern in patterns)]


def own_names(model: PreTrainedModel, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A state dict under the model's own names, from those or from the names that checkpoints use."""
    own = model.state_dict()
    if all(name in own for name in state):
        return state
    find = Finder(model, state)
    tied = model.ties()
    found: dict[str, Tensor] = {}
    for name in own:
        if name in state:
            found[name] = state[name]
        elif (where := find(name)) is not None or (name in tied and (where := find(tied[name])) is not None):
            found[name] = keys.read(where, state[where.key])
    found.update({key: state[key] for key in find.unused(tied) if key not in own})
    return found


def initialise(model: PreTrainedModel, names: Iterable[str]) -> None:
    """Random values for the named parameters: normal weights, zero biases, unit norms."""
    norms = {f"{name}.weight": 1.0 for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    norms |= {f"{name}.weight": m.initial for name, m in model.named_modules() if isinstance(m, RMSNorm)}
    pads = {f"{name}.weight": module.padding_idx for name, module in model.named_modules() if _is_embedding(module)}
    with torch.no_grad():
        for name in names:
            parameter = model.get_parameter(name)
            if name.endswith("bias"):
                parameter.zero_()
            elif name in norms:
                parameter.fill_(norms[name])
            else:
                deviation = model.spec.deviation
                spread = model.spec.initializer_range if deviation is None else deviation(name, parameter.shape)
                parameter.normal_(0.0, spread)
                if pads.get(name) is not None:
                    parameter[pads[name]].zero_()
            owner = model.get_submodule(name.rpartition(".")[0])
            if isinstance(owner, StoredSinusoids):
                owner.reset()
            if model.spec.sinusoidal_positions and name.endswith("embeddings.positions.weight"):
                parameter.copy_(sinusoids(*parameter.shape))


def _optional(model: PreTrainedModel, key: str) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in model.definition.optional)


def _is_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding)


def _assign(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    module, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module), leaf, parameter)


def _config(
    cls: type[PreTrainedModel],
    files: ModelFiles | None,
    config: PreTrainedConfig | str | PathLike[str] | None,
    options: Options,
    overrides: Mapping[str, Any],
) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        config.check_names(overrides, config.extra)
        config.update(overrides)
        return config
    if config is not None:
        files = resolve(config, options.source)
    if files is None:
        raise InputError("Neither a name nor a config was given.", "Pass the name or the folder of a model.")
    values = files.read_config()
    got, wanted = values.get("model_type"), cls.config_class.model_type
    if got not in (None, wanted):
        raise ConfigError(
            f"{files.name!r} is a {got!r} model; {cls.__name__} loads {wanted!r}.",
            "Use the Auto class, which picks the right class.",
        )
    return cls.config_class.from_dict(values, **overrides)


def _weights(files: ModelFiles | None, config: PreTrainedConfig, options: Options) -> Weights:
    if options.state_dict is not None:
        return StateDict(options.state_dict)
    if files is None:
        raise InputError("Neither a name nor a state_dict was given.", "Pass one of them, or use from_config.")
    checkpoint = open_weights(files, variant=options.variant, use_safetensors=options.use_safetensors)
    quantization = config.extra.pop("quantization_config", None)
    if quantization is None:
        return checkpoint
    if quantization != INT8:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise UnsupportedError(
            f"{files.name!r} is quantized with {method!r}, which formers does not read.",
            "Use the original, unquantized model.",
        )
    return Dequantized(checkpoint)


def _dtype(
    choice: str | torch.dtype | None, config: PreTrainedConfig, weights: Weights | None, device: torch.device
) -> torch.dtype:
    """The type that is asked for; with "auto" that of the checkpoint, if the device is fast in it."""
    if choice is None:
        return torch.float32
    if choice != "auto":
        return _named_dtype(choice)
    if weights is None or config.dtype is not None:
        stored = _named_dtype(config.dtype or "float32")
    else:
        kinds: Iterable[torch.dtype] = map(weights.dtype, weights.keys())
        stored = next((kind for kind in kinds if kind.is_floating_point), torch.float32)
    return placement.automatic_dtype(stored, device)


def _named_dtype(choice: str | torch.dtype) -> torch.dtype:
    name = str(choice).removeprefix("torch.")
    if name not in _DTYPES:
        raise InputError(f"dtype={choice!r} is not supported.", f"Use 'auto' or one of {', '.join(sorted(_DTYPES))}.")
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _report(model: PreTrainedModel, info: LoadingInfo) -> None:
    name = type(model).__name__
    tell: Callable[[list[str]], str] = lambda names: ", ".join(names[:8]) + (", …" if len(names) > 8 else "")  # noqa: E731
    new = [*info.missing, *(key for key, _, _ in info.mismatched)]
    if new:
        logger.warning("%s: new random weights, to be trained before use: %s", name, tell(new))
    if info.unexpected:
        logger.warning("%s: weights of the checkpoint without use here: %s", name, tell(info.unexpected))
