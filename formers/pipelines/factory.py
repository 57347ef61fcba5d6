"""`pipeline()`: from the name of a task, of a model or of both to a pipeline."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch

from formers.errors import InputError
from formers.hub.files import ModelFiles, Source, resolve
from formers.pipelines.base import Pipeline, resolve_device, resolve_dtype
from formers.registry import AUTO_CLASSES, SPEECH, TASK_ALIASES, TASKS, language_pair, task_name

if TYPE_CHECKING:
    from formers.configuration import PreTrainedConfig
    from formers.models.base import PreTrainedModel
    from formers.tokenization import PreTrainedTokenizerFast

logger = logging.getLogger("formers")

# What says where files come from; a tokenizer is loaded with the same.
_SPEECH_TASK = "automatic-speech-recognition"
_SOURCE = ("revision", "token", "cache_dir", "local_files_only", "subfolder", "force_download")


def pipeline(
    task: str | None = None,
    model: str | PathLike[str] | PreTrainedModel | None = None,
    config: str | PathLike[str] | PreTrainedConfig | None = None,
    tokenizer: str | PathLike[str] | tuple[str, Mapping[str, Any]] | PreTrainedTokenizerFast | None = None,
    *,
    feature_extractor: Any = None,
    image_processor: Any = None,
    video_processor: Any = None,
    processor: Any = None,
    framework: str | None = None,
    revision: str | None = None,
    use_fast: bool = True,
    token: str | bool | None = None,
    device: int | str | torch.device | None = None,
    device_map: str | torch.device | Mapping[str, Any] | None = None,
    dtype: str | torch.dtype | None = "auto",
    torch_dtype: str | torch.dtype | None = None,
    quantize: str | None = None,
    trust_remote_code: bool | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    pipeline_class: type[Pipeline[Any]] | None = None,
    local_files_only: bool = False,
    cache_dir: str | PathLike[str] | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    **options: Any,
) -> Pipeline[Any]:
    """Make a pipeline.

    Args:
        task: what to do, such as "text-classification"; told from the model if left out.
        model: a folder, an installed model package, a name on the hub, or a loaded model; by default the task's own.
        config: a configuration, or the name of one, for loading the model.
        tokenizer: a tokenizer or its name; by default the model's.
        feature_extractor, processor: of tasks of sound: what makes features; by default the model's.
        framework: None or "pt".
        revision, token, cache_dir, local_files_only: where model and tokenizer come from, as in `from_pretrained`.
        use_fast: accepted; every tokenizer is a fast one.
        device: "cpu", "cuda:1", a number (-1: the CPU); the first accelerator, or else the CPU, if left out.
        device_map: as in `from_pretrained`, instead of `device`.
        dtype, torch_dtype: data type to compute in. "auto" is the checkpoint's own where the device is fast in it, else
            float32; a loaded model stays as it is.
        quantize: "int8" or "int4", as in `from_pretrained`, for a model that is named.
        trust_remote_code: accepted; changes nothing, since code from model folders is never run.
        model_kwargs: further arguments of the model's `from_pretrained`.
        pipeline_class: a class of your own instead of the task's.
        batch_size: fixed batches in input order instead of batches by length.
        num_workers: accepted; the tokenizer uses all cores by itself.
        options: the task's own options, as defaults for every call.

    Raises:
        InputError: for an unknown task or option, or for arguments that do not go together.
    """
    for name, value in {
        "image_processor": image_processor,
        "video_processor": video_processor,
    }.items():
        if value is not None:
            raise InputError(f"{name}= was given.", "The tasks of formers work on text and sound.")
    if task is None and model is None:
        raise InputError("Neither a task nor a model is given.", 'For example: pipeline("text-classification").')
    if model is None and (tokenizer is not None or config is not None):
        raise InputError(
            "A tokenizer or a configuration is given without a model.", "Pass the model that it belongs to."
        )
    source = {"revision": revision, "token": token, "local_files_only": local_files_only, "cache_dir": cache_dir}
    asked = {**source, "quantize": quantize}
    loading: dict[str, Any] = {**asked, **_once(model_kwargs, asked)}
    if task is None:
        task = _task_of(model, Source(**{name: loading[name] for name in _SOURCE if name in loading}))
    kind = check_task(task)
    sound = _of_sound(kind, feature_extractor, processor)
    tokenizer = getattr(processor, "tokenizer", None) if tokenizer is None else tokenizer
    if model is None:
        model = _default_model(task)
    if device is not None and device_map is not None:
        raise InputError("Both device and device_map are given.", "Pass one of them.")
    chosen = _dtype(dtype, torch_dtype, loading)
    made = isinstance(model, (str, PathLike))
    loaded: Any = model
    if made:
        places = device_map if device_map is not None else loading.get("device_map")
        wanted = "cpu" if device is None and loading["quantize"] is not None else device
        loading["device_map"] = resolve_device(wanted) if places is None else places
        loading["dtype"] = chosen
        auto = getattr(import_module("formers.models.auto"), TASKS[kind].auto)
        loaded = auto.from_pretrained(model, **loading, **({} if config is None else {"config": config}))
    elif model_kwargs or quantize is not None or not isinstance(config, (str, PathLike, type(None))):
        raise InputError(
            "A loaded model is given with quantize, model_kwargs or a configuration.", "Pass the model's name instead."
        )
    build = pipeline_class or _class_of(kind)
    return build(
        loaded,
        _tokenizer(tokenizer, model if made else config, loading),
        task=kind if language_pair(task) is None else task,
        device=None if getattr(loaded, "hf_device_map", None) else loaded.device if made else device,
        dtype=None if made else chosen,
        batch_size=batch_size,
        num_workers=num_workers,
        framework=framework,
        **sound,
        **options,
    )


def _of_sound(task: str, feature_extractor: Any, processor: Any) -> dict[str, Any]:
    """What a pipeline of sound takes beside the others."""
    given = getattr(processor, "feature_extractor", None) if feature_extractor is None else feature_extractor
    if TASKS[task].auto == "AutoModelForSpeechSeq2Seq":
        return {} if given is None else {"feature_extractor": given}
    if feature_extractor is not None or processor is not None:
        name = "processor" if feature_extractor is None else "feature_extractor"
        raise InputError(f"{name}= was given.", f"{task} works on text: pass tokenizer= instead.")
    return {}


def get_supported_tasks() -> list[str]:
    """The names that `pipeline(task)` takes, aliases included."""
    return sorted([*TASKS, *TASK_ALIASES])


def check_task(task: str) -> str:
    """The task's own name for a name or an alias; InputError with near names for an unknown one."""
    known = task_name(str(task))
    if known is not None:
        return known
    near = difflib.get_close_matches(str(task), get_supported_tasks(), n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise InputError(f"There is no task {task!r}.", f"{meant}The tasks are: {', '.join(get_supported_tasks())}.")


def _default_model(task: str) -> str:
    """The model that a task uses where none is given; says so, unless it is installed with formers."""
    entry = TASKS[check_task(task)]
    if entry.pairs and task.removeprefix("translation_") not in entry.pairs:
        ours = " or ".join(f"translation_{pair}" for pair in entry.pairs)
        raise InputError(f"{task} has no model of its own.", f"Pass model=, or use {ours}.")
    from formers.hub.packages import find_package

    installed = find_package(entry.default_model) is not None
    logger.log(
        logging.INFO if installed else logging.WARNING,
        "No model was given: %s uses %s. Pass model= to choose one.",
        task,
        entry.default_model,
    )
    return entry.default_model


def _class_of(task: str) -> type[Pipeline[Any]]:
    module, name = TASKS[task].pipeline.split(":")
    found: type[Pipeline[Any]] = getattr(import_module(f"formers.pipelines.{module}"), name)
    return found


def _once(model_kwargs: Mapping[str, Any] | None, source: Mapping[str, Any]) -> dict[str, Any]:
    """model_kwargs, none of which may contradict an argument of `pipeline` itself."""
    given = dict(model_kwargs or {})
    for name, value in source.items():
        if value and given.get(name, value) != value:
            raise InputError(f"{name} is given twice, by name and in model_kwargs.", "Give it once.")
    return given


def _dtype(
    dtype: str | torch.dtype | None, torch_dtype: str | torch.dtype | None, loading: dict[str, Any]
) -> str | torch.dtype:
    """The one data type that is asked for, or "auto"; takes the spellings of model_kwargs out."""
    spelled = [dtype, torch_dtype, loading.pop("dtype", None), loading.pop("torch_dtype", None)]
    asked = {resolve_dtype(value) for value in spelled if value not in (None, "auto")}
    if len(asked) > 1:
        raise InputError(f"Several data types are given: {', '.join(sorted(map(str, asked)))}.", "Give dtype= alone.")
    return asked.pop() if asked else "auto"


def _tokenizer(given: Any, fallback: Any, loading: Mapping[str, Any]) -> Any:
    """The tokenizer that was given, loaded if it is a name; else that of `fallback`, a name."""
    arguments = {name: loading[name] for name in _SOURCE if name in loading}
    if isinstance(given, tuple):
        given, more = given
        arguments.update(more)
    name = fallback if given is None else given
    if not isinstance(name, (str, PathLike)):
        return name if given is not None else None
    return import_module("formers.tokenization").AutoTokenizer.from_pretrained(name, **arguments)


def _task_of(model: Any, source: Source) -> str:
    """The task that a model is for: what its card says, or else what its head can do."""
    if isinstance(model, (str, PathLike)):
        files = resolve(model, source)
        tag = _card_tag(files)
        if task_name(tag) is not None:
            return tag
        described = files.read_config()
        names, model_type = described.get("architectures") or [], described.get("model_type")
    else:
        names, model_type = [type(model).__name__], getattr(getattr(model, "config", None), "model_type", None)
    if model_type in SPEECH:
        return _SPEECH_TASK
    for task, entry in TASKS.items():
        if task != _SPEECH_TASK and any(str(name).endswith(AUTO_CLASSES[entry.auto]) for name in names):
            return task
    raise InputError(
        f"The task cannot be told from the model: it is made as {', '.join(map(str, names)) or 'nothing named'}.",
        f"Pass one of: {', '.join(TASKS)}.",
    )


def _card_tag(files: ModelFiles) -> str:
    """The value of pipeline_tag in the head of the model's README.md, or ""."""
    card = files.find("README.md")
    lines = card.read_text(encoding="utf-8", errors="replace").split("\n") if card is not None else []
    if not lines or lines[0].strip() != "---":
        return ""
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if line.strip() == "---":
            break
        if name == "pipeline_tag":
            return value.strip().strip("'\"")
    return ""
