"""The concrete classes of the registry, and the Auto classes that pick one from a configuration."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib import import_module
from os import PathLike
from typing import Any, ClassVar, cast

from formers.configuration import PreTrainedConfig
from formers.errors import ConfigError, InputError
from formers.hub.files import Source, resolve
from formers.models.architectures import ARCHITECTURES, WITH_HEAD
from formers.models.base import PreTrainedModel
from formers.models.seq2seq import Seq2SeqModel
from formers.models.spec import Definition
from formers.registry import AUTO_CLASSES, FAMILIES, SPEECH, auto_head

# Names of models without a head: all of it, or half of an encoder–decoder.
BARE = ("Model", "EncoderModel", "DecoderModel")


def definition(model_type: str) -> Definition:
    """The definition of a registered family; ConfigError listing near names for an unknown one."""
    if model_type not in FAMILIES:
        near = get_close_matches(model_type, FAMILIES, 3) or sorted(FAMILIES)
        raise ConfigError(
            f"formers has no architecture for the model type {model_type!r}.",
            f"Near names: {', '.join(near)}. Check model_type in config.json.",
        )
    module = import_module(f"formers.models.families.{FAMILIES[model_type].module}")
    return cast(Definition, module.DEFINITIONS[model_type])


@cache
def model_class(model_type: str, head: str) -> type[PreTrainedModel]:
    """The class of a family and a head ("Model", "ForMaskedLM", …)."""
    family, defined = FAMILIES[model_type], definition(model_type)
    defined = defined.halves.get(head, defined)
    architecture = ARCHITECTURES[defined.architectures.get(head, head)]
    name = family.class_name(head)
    members: dict[str, Any] = {
        "__module__": __name__,
        "__qualname__": name,
        "__doc__": f"{family.prefix}: {architecture.__doc__}",
        "definition": defined,
        "config_class": defined.config,
        "base_model_prefix": defined.prefixes.get(head, defined.base_prefix),
        "head_name": "" if head in BARE else head,
    }
    if issubclass(architecture, WITH_HEAD):
        members["base_class"] = model_class(model_type, defined.base)
    elif issubclass(architecture, Seq2SeqModel) and defined.halves:
        members["encoder_class"] = model_class(model_type, "EncoderModel")
        members["decoder_class"] = model_class(model_type, "DecoderModel")
    return type(name, (architecture,), members)


def decoder_heads(model_type: str) -> tuple[str, str]:
    """The heads, for `model_class`, of a family as the decoder of another's encoder: the bare one, and with logits."""
    as_encoder = "DecoderLMHeadModel" in definition(model_type).halves
    return ("DecoderModel", "DecoderLMHeadModel") if as_encoder else ("Model", "LMHeadModel")


class AutoConfig:
    """Picks the configuration class from the model type."""

    @staticmethod
    def for_model(model_type: str, **values: Any) -> PreTrainedConfig:
        """A configuration of a model type."""
        return definition(model_type).config(**values)

    @staticmethod
    def from_pretrained(
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        cache_dir: str | PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        subfolder: str = "",
        gguf_file: str | None = None,
        trust_remote_code: bool | None = None,
        **overrides: Any,
    ) -> PreTrainedConfig:
        """The configuration of a folder, an installed model package or a hub model; other keywords override values.

        `trust_remote_code` changes nothing: code from model folders is never run.
        """
        source = Source(revision, token, cache_dir, local_files_only, subfolder, force_download, gguf_file)
        values = resolve(pretrained_model_name_or_path, source).read_config()
        config_class = definition(_model_type(values, pretrained_model_name_or_path)).config
        return config_class.from_dict({**values, "_name_or_path": str(pretrained_model_name_or_path)}, **overrides)


class _Auto:
    """Picks the model class from the configuration."""

    heads: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        raise InputError(
            f"{type(self).__name__} is not a model itself.",
            f"Use {type(self).__name__}.from_pretrained(name) or .from_config(config).",
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], **options: Any) -> Any:
        """Load a model of this head; options as in PreTrainedModel.from_pretrained."""
        config = options.get("config")
        if isinstance(config, PreTrainedConfig):
            return cls._class_for(config.model_type).from_pretrained(pretrained_model_name_or_path, **options)
        names = ("revision", "token", "cache_dir", "local_files_only", "subfolder", "force_download", "gguf_file")
        source = Source(**{name: options[name] for name in names if name in options})
        name = pretrained_model_name_or_path if config is None else config
        values = resolve(name, source).read_config()
        return cls._class_for(_model_type(values, name)).from_pretrained(pretrained_model_name_or_path, **options)

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **options: Any) -> PreTrainedModel:
        """A model of this head with new random weights."""
        options.pop("trust_remote_code", None)
        return cls._class_for(config.model_type).from_config(config, **options)

    @classmethod
    def _class_for(cls, model_type: str) -> type[PreTrainedModel]:
        definition(model_type)
        head = auto_head(cls.__name__, model_type)
        if head is not None:
            return model_class(model_type, head)
        others = [name for name in AUTO_CLASSES if set(AUTO_CLASSES[name]) & set(cls.heads)]
        right = next((name for name in others if auto_head(name, model_type)), None)
        if right is not None:
            read, written = ("sound", "text") if model_type in SPEECH else ("text", "sound")
            raise ConfigError(
                f"{cls.__name__} is for models that read {written}, and those of type {model_type!r} read {read}.",
                f"Use {right}.",
            )
        able = sorted(name for name in FAMILIES if auto_head(cls.__name__, name))
        raise ConfigError(
            f"{cls.__name__}: models of type {model_type!r} have no such head.",
            f"Model types that have one: {', '.join(able)}.",
        )


def _model_type(values: dict[str, Any], name: str | PathLike[str]) -> str:
    model_type = values.get("model_type")
    if not isinstance(model_type, str):
        raise ConfigError(
            f"config.json of {name!s} names no model_type.", f"Add one of: {', '.join(sorted(FAMILIES))}."
        )
    return model_type


def __getattr__(name: str) -> Any:
    if name in AUTO_CLASSES:
        members = {"heads": AUTO_CLASSES[name], "__module__": __name__, "__doc__": _Auto.__doc__}
        made: Any = type(name, (_Auto,), members)
    else:
        for model_type, family in FAMILIES.items():
            head = next((head for head in family.heads if family.class_name(head) == name), None)
            if head is not None:
                made = model_class(model_type, head)
                break
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made
    return made
