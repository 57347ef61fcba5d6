"""Configurations: one dataclass a family, with the field names and defaults of `config.json`.

Keys that a family does not know are kept in `extra` and written back, so a round trip loses nothing; none of them is
ever acted on.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from typing_extensions import dataclass_transform

from formers.errors import ConfigError, InputError
from formers.hub.atomic import write_json
from formers.hub.files import Source, resolve

CONFIG_NAME = "config.json"
_Self = TypeVar("_Self", bound="PreTrainedConfig")
_Class = TypeVar("_Class", bound="type[PreTrainedConfig]")

# Spellings of one value: the left one is stored.
_ALIASES = {"torch_dtype": "dtype", "_attn_implementation": "attn_implementation"}


@dataclass_transform(kw_only_default=True)
def config_dataclass(cls: _Class) -> _Class:
    """Make `cls` a dataclass whose constructor is `PreTrainedConfig.__init__`."""
    dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    return cls


@config_dataclass
class PreTrainedConfig:
    """What every configuration has. Construct with keywords; unknown ones go to `extra` and become attributes."""

    model_type: ClassVar[str] = ""
    attribute_map: ClassVar[Mapping[str, str]] = {}

    architectures: list[str] | None = None
    id2label: dict[int, str] | None = None
    label2id: dict[str, int] | None = None
    problem_type: str | None = None
    dtype: str | None = None
    output_hidden_states: bool = False
    output_attentions: bool = False
    return_dict: bool = True
    is_encoder_decoder: bool = False
    is_decoder: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True
    chunk_size_feed_forward: int = 0
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    cls_token_id: int | None = None
    sep_token_id: int | None = None

    def __init__(self, **values: Any) -> None:
        self.extra: dict[str, Any] = {}
        self.name_or_path = str(values.pop("_name_or_path", values.pop("name_or_path", "")))
        self.attn_implementation: Any = values.pop("attn_implementation", values.pop("_attn_implementation", None))
        num_labels = values.pop("num_labels", None)
        for field in dataclasses.fields(self):
            factory: Any = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            object.__setattr__(self, field.name, copy.copy(default))
        model_type = values.pop("model_type", self.model_type)
        if self.model_type and model_type != self.model_type:
            raise ConfigError(
                f"{type(self).__name__} describes models of type {self.model_type!r}, not {model_type!r}.",
                "Use AutoConfig, which picks the class from the model type.",
            )
        for name, value in values.items():
            setattr(self, name, value)
        self._settle_labels(num_labels)
        self.settle()

    def settle(self) -> None:
        """Complete and check the values of a new configuration. Families override it."""

    def _settle_labels(self, num_labels: int | None) -> None:
        if self.id2label is not None:
            self.id2label = {int(index): str(label) for index, label in self.id2label.items()}
        if num_labels is not None and (self.id2label is None or len(self.id2label) != num_labels):
            self.num_labels = num_labels
        elif self.id2label is None:
            self.num_labels = 2
        elif self.label2id is None:
            self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def num_labels(self) -> int:
        """How many labels a classification head has; setting another number renames them LABEL_0, LABEL_1, …"""
        return len(self.id2label or {})

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if count < 1:
            raise ConfigError(f"num_labels is {count}.", "Give a classification head at least one label.")
        if len(self.id2label or {}) != count:
            self.id2label = {index: f"LABEL_{index}" for index in range(count)}
            self.label2id = {label: index for index, label in self.id2label.items()}

    @property
    def use_return_dict(self) -> bool:
        """The older name of `return_dict`."""
        return self.return_dict

    def __getattr__(self, name: str) -> Any:
        target = type(self).attribute_map.get(name, _ALIASES.get(name))
        if target is not None:
            return getattr(self, target)
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        name = type(self).attribute_map.get(name, _ALIASES.get(name, name))
        known = name in self.__dict__ or name in ("extra", "name_or_path", "attn_implementation")
        if known or hasattr(type(self), name):
            if name == "dtype" and value is not None:
                value = str(value).removeprefix("torch.")
            object.__setattr__(self, name, value)
        else:
            self.extra[name] = value

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        yield from self.to_dict().items()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PreTrainedConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string(use_diff=True)}"

    def to_dict(self) -> dict[str, Any]:
        """All values, as `config.json` holds them."""
        values = {field.name: copy.deepcopy(getattr(self, field.name)) for field in dataclasses.fields(self)}
        values.update(copy.deepcopy(self.extra))
        values["model_type"] = self.model_type or values.get("model_type", "")
        return values

    def to_diff_dict(self) -> dict[str, Any]:
        """The values that differ from the family's defaults, with the model type."""
        defaults = type(self)().to_dict()
        values = self.to_dict()
        return {k: v for k, v in values.items() if k == "model_type" or k not in defaults or v != defaults[k]}

    def to_json_string(self, use_diff: bool = True) -> str:
        """The JSON text that `save_pretrained` writes."""
        values = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    def update(self, values: Mapping[str, Any]) -> None:
        """Set several values."""
        for name, value in values.items():
            setattr(self, name, value)

    def save_pretrained(self, save_directory: str | PathLike[str], push_to_hub: bool = False) -> None:
        """Write `config.json` into a folder, which is made if need be."""
        folder = Path(save_directory)
        if folder.is_file():
            raise ConfigError(f"{folder} is a file.", "Give the path of a folder to save into.")
        folder.mkdir(parents=True, exist_ok=True)
        # None is written where the default is something else: without it, a reader would take the default.
        said = self.to_diff_dict()
        values = {k: v for k, v in sorted(self.to_dict().items()) if v is not None or k in said}
        write_json(folder / CONFIG_NAME, values)
        if push_to_hub:
            from formers.hub.upload import upload_folder

            upload_folder(folder, folder.name)

    @classmethod
    def from_dict(cls: type[_Self], values: Mapping[str, Any], **overrides: Any) -> _Self:
        """A configuration from a dictionary such as `config.json` holds; keywords win over it, and must be known."""
        cls.check_names(overrides, values)
        merged = dict(values)
        count = overrides.get("num_labels")
        if "id2label" in overrides or count not in (None, len(merged.get("id2label") or {})):
            merged.pop("id2label", None)
            merged.pop("label2id", None)
        return cls(**{**merged, **overrides})

    @classmethod
    def check_names(cls, given: Iterable[str], extra: Iterable[str] = ()) -> None:
        """InputError for a name that is neither a value of this configuration nor among `extra`."""
        known = {field.name for field in dataclasses.fields(cls)} | {"num_labels", "attn_implementation"}
        known |= {*cls.attribute_map, *_ALIASES, *extra}
        known |= {name for name in dir(cls) if isinstance(getattr(cls, name, None), property)}
        for name in given:
            if name not in known:
                near = get_close_matches(name, known, 1, 0.75)
                raise InputError(
                    f"Got {name!r}, which is neither an option nor a value of {cls.__name__}.",
                    f"Did you mean {near[0]!r}?" if near else f"See {cls.__name__} for its values.",
                )

    @classmethod
    def from_pretrained(
        cls: type[_Self],
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        cache_dir: str | PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        gguf_file: str | None = None,
        **overrides: Any,
    ) -> _Self:
        """Read `config.json` of a folder, an installed model package or a hub model; other keywords override values."""
        source = Source(revision, token, cache_dir, local_files_only, subfolder, force_download, gguf_file)
        values = resolve(pretrained_model_name_or_path, source).read_config()
        return cls.from_dict({**values, "_name_or_path": str(pretrained_model_name_or_path)}, **overrides)


PretrainedConfig = PreTrainedConfig


def positive(config: PreTrainedConfig, *names: str) -> None:
    """Check that the named values are positive whole numbers."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(
                f"{type(config).__name__}.{name} is {value!r}; a positive whole number is expected.",
                "Correct config.json or the argument.",
            )
