"""What an adapter is: the fields of `adapter_config.json`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from enum import Enum
from os import PathLike
from typing import Any

from formers.errors import InputError, UnsupportedError
from formers.hub.files import ModelFiles, Source, resolve

CONFIG = "adapter_config.json"


class TaskType(str, Enum):
    """What the adapted model does; it decides which head is trained along."""

    SEQ_CLS = "SEQ_CLS"
    TOKEN_CLS = "TOKEN_CLS"
    QUESTION_ANS = "QUESTION_ANS"
    CAUSAL_LM = "CAUSAL_LM"
    SEQ_2_SEQ_LM = "SEQ_2_SEQ_LM"
    FEATURE_EXTRACTION = "FEATURE_EXTRACTION"


_HEADS = {
    TaskType.SEQ_CLS: ("classifier", "score"),
    TaskType.TOKEN_CLS: ("classifier", "score"),
    TaskType.QUESTION_ANS: ("qa_outputs",),
}
# How weights began matters to nobody who loads them, unless it changed the model's own.
_SPENT_INITS = ("eva", "orthogonal")
_NOTES = ("peft_type", "peft_version", "auto_mapping", "runtime_config")


@dataclass(kw_only=True)
class LoraConfig:
    """A low-rank adapter (Hu et al., 2021): W x becomes W x + lora_alpha / r * B A x in chosen dense layers.

    target_modules: the layers' names or the ends of them ("query"), a regular expression for whole names, "all-linear",
        or None for the queries and values of attention. Names are those of the reference implementation's modules,
        which files use, or those of formers ("q_proj"); exclude_modules likewise.
    bias: which biases are trained along: "none", "all", or those of the adapted layers ("lora_only").
    modules_to_save: what is trained whole and saved with the adapter; the heads of the `task_type` are added.
    layers_to_transform, layers_pattern: only layers of these numbers, counted after names such as "layer".
    rank_pattern, alpha_pattern: other ranks and alphas by names or expressions.
    use_rslora: scale by lora_alpha / sqrt(r) (Kalajdzievski, 2023).
    fan_in_fan_out: says of files that their model keeps (in, out) matrices; changes nothing here.
    init_lora_weights: True for Kaiming's A, "gaussian" for a normal one, both with B = 0; False for a random B too.
    """

    r: int = 8
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    fan_in_fan_out: bool = False
    bias: str = "none"
    use_rslora: bool = False
    modules_to_save: list[str] | None = None
    init_lora_weights: bool | str = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    task_type: TaskType | str | None = None
    inference_mode: bool = False
    base_model_name_or_path: str | None = None
    revision: str | None = None
    # What the format has beyond this: refused unless left at its default.
    alora_invocation_tokens: None = field(default=None, repr=False)
    arrow_config: None = field(default=None, repr=False)
    corda_config: None = field(default=None, repr=False)
    ensure_weight_tying: bool = field(default=False, repr=False)
    eva_config: None = field(default=None, repr=False)
    kasa_config: None = field(default=None, repr=False)
    layer_replication: None = field(default=None, repr=False)
    loftq_config: dict[str, Any] = field(default_factory=dict, repr=False)
    lora_bias: bool = field(default=False, repr=False)
    lora_ga_config: None = field(default=None, repr=False)
    megatron_config: None = field(default=None, repr=False)
    megatron_core: str | None = field(default="megatron.core", repr=False)
    monteclora_config: None = field(default=None, repr=False)
    qalora_group_size: int = field(default=16, repr=False)
    target_parameters: None = field(default=None, repr=False)
    trainable_token_indices: None = field(default=None, repr=False)
    use_bdlora: None = field(default=None, repr=False)
    use_dora: bool = field(default=False, repr=False)
    use_qalora: bool = field(default=False, repr=False)
    velora_config: None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in _BEYOND:
            if getattr(self, name) and name not in ("megatron_core", "qalora_group_size"):
                raise UnsupportedError(f"{name}={getattr(self, name)!r} is not supported.", f"Leave {name} out.")
        for name in ("target_modules", "exclude_modules", "modules_to_save", "layers_pattern", "layers_to_transform"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str | int):
                setattr(self, name, sorted(value) if isinstance(value, set | frozenset) else list(value))
        self.rank_pattern, self.alpha_pattern = self.rank_pattern or {}, self.alpha_pattern or {}
        for rank in (self.r, *self.rank_pattern.values()):
            if type(rank) is not int or rank < 1:
                raise InputError(f"The rank r is {rank!r}.", "Give a whole number from 1 on.")
        if not 0 <= self.lora_dropout < 1:
            raise InputError(f"lora_dropout is {self.lora_dropout!r}.", "Give a probability below 1.")
        if self.bias not in ("none", "all", "lora_only"):
            raise InputError(f"bias={self.bias!r} is unknown.", "Use 'none', 'all' or 'lora_only'.")
        if self.init_lora_weights not in (True, False, "gaussian"):
            raise UnsupportedError(
                f"init_lora_weights={self.init_lora_weights!r} is not supported.", "Use True, False or 'gaussian'."
            )
        if self.layers_pattern is not None and self.layers_to_transform is None:
            raise InputError("layers_pattern without layers_to_transform.", "Give the numbers of the layers too.")
        if self.layers_to_transform is not None and isinstance(self.target_modules, str):
            raise InputError(
                f"layers_to_transform does not go with target_modules={self.target_modules!r}.",
                "Give target_modules as a list, or say the layers in the regular expression.",
            )
        for pattern in (self.target_modules, self.exclude_modules, *self.rank_pattern, *self.alpha_pattern):
            if isinstance(pattern, str):
                _check_pattern(pattern)
        self.task_type = _task(self.task_type)
        if self.task_type in _HEADS:
            own = self.modules_to_save or []
            self.modules_to_save = [*own, *(name for name in _HEADS[self.task_type] if name not in own)]

    def scaling(self, rank: int, alpha: float) -> float:
        """What multiplies B A."""
        return float(alpha / rank**0.5 if self.use_rslora else alpha / rank)

    def to_dict(self) -> dict[str, Any]:
        """The content of `adapter_config.json`."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _BEYOND}
        task = self.task_type
        return {"peft_type": "LORA", "auto_mapping": None, **values, "task_type": getattr(task, "value", task)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LoraConfig:
        """A configuration from the content of `adapter_config.json`."""
        kind = str(values.get("peft_type", "LORA")).rpartition(".")[2]
        if kind != "LORA":
            raise UnsupportedError(f"The adapter is of the kind {kind}.", "Only LoRA adapters are supported.")
        known = {f.name for f in fields(cls)}
        unknown = [name for name, value in values.items() if value and name not in known and name not in _NOTES]
        if unknown:
            raise UnsupportedError(
                f"The adapter was made with {', '.join(f'{name}={values[name]!r}' for name in unknown)}, "
                "which is not known here.",
                "Make it without, or merge it into its model with the package that made it.",
            )
        given = {name: value for name, value in values.items() if name in known}
        if given.get("init_lora_weights") in _SPENT_INITS:
            given["init_lora_weights"] = True
        return cls(**given)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        subfolder: str = "",
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | PathLike[str] | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> LoraConfig:
        """The configuration of a saved adapter, from a folder or the hub."""
        source = Source(revision, token, cache_dir, local_files_only, subfolder or "", force_download)
        return cls.from_files(resolve(pretrained_model_name_or_path, source))

    @classmethod
    def from_files(cls, files: ModelFiles) -> LoraConfig:
        """The configuration of an adapter whose files were found."""
        return cls.from_dict(files.read_json(CONFIG))


PeftConfig = LoraConfig
_NAMES = [f.name for f in fields(LoraConfig)]
_BEYOND = tuple(_NAMES[_NAMES.index("revision") + 1 :])


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(f"{pattern!r} is no regular expression: {error}.", "Correct it, or give a list.") from error


def _task(given: TaskType | str | None) -> TaskType | None:
    # peft has an enumeration of its own, with the same values.
    value = getattr(given, "value", given)
    if value is None or value in TaskType.__members__:
        return None if value is None else TaskType[value]
    raise InputError(f"task_type={given!r} is unknown.", f"Use one of {', '.join(TaskType.__members__)}.")
