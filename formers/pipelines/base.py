"""The pipeline: from inputs to answers through preprocess, forward and postprocess, batched by length."""

from __future__ import annotations

import dataclasses
import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import torch

from formers.errors import InputError
from formers.pipelines.batching import ACCELERATOR_TOKENS, CPU_TOKENS, by_length, in_order, windows
from formers.pipelines.encoding import TOKENIZER_ARGUMENTS, Row, TextEncoder, TextOptions
from formers.pipelines.notice import warn
from formers.registry import AUTO_CLASSES, TASKS, public_names, task_name

if TYPE_CHECKING:
    from formers.models.base import PreTrainedModel
    from formers.tokenization import PreTrainedTokenizerFast

O = TypeVar("O", bound=TextOptions)  # noqa: E741


@dataclass(slots=True)
class Prepared:
    """One input, ready for the model: its rows, and what postprocessing needs besides their outputs."""

    rows: list[Row]
    source: Any = None


class Results(Iterator[Any]):
    """The answers to a stream of inputs, in order, computed as they are asked for. Has a length if the inputs have."""

    def __init__(self, answers: Iterator[Any], length: int | None) -> None:
        self._answers = answers
        self._length = length

    def __next__(self) -> Any:
        return next(self._answers)

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("The number of answers is not known beforehand: the inputs have no length.")
        return self._length


class Pipeline(ABC, Generic[O]):
    """A task made ready to call: a tokenizer, a model and what turns its outputs into answers.

    Inputs are one input, a list (or tuple, column, array: answered by a list), or any other iterable, endless ones too
    (answered by an iterator). They are batched by length under a token budget unless `batch_size` asks for fixed
    batches in input order; answers come in input order. Nothing is changed by a call: pipelines may be shared by
    threads. A subclass names its `Options`, the keywords of its calls and of its constructor, and writes the three
    steps; all of them work on many inputs at once.
    """

    Options: ClassVar[type[Any]]
    # Inputs that are tokenized and sorted together, at most.
    window: ClassVar[int] = 2048
    # Keywords that a subclass takes beside its options.
    further: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast | None = None,
        *,
        task: str = "",
        device: int | str | torch.device | None = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        framework: str | None = None,
        binary_output: bool = False,
        **options: Any,
    ) -> None:
        if tokenizer is None:
            raise InputError(
                "A pipeline needs a tokenizer.", "Pass tokenizer=AutoTokenizer.from_pretrained(...) beside the model."
            )
        if framework not in (None, "pt"):
            raise InputError(f"framework={framework!r} was asked for.", "formers computes with PyTorch: leave it out.")
        if binary_output:
            raise InputError("binary_output=True was given.", "Answers are Python objects: serialise them yourself.")
        self.task = task
        self.model = model
        self.tokenizer = tokenizer
        self._require_head()
        if device is not None or getattr(model, "hf_device_map", None) is None:
            model.to(resolve_device(device))
        if dtype not in (None, "auto") or torch_dtype is not None:
            model.to(resolve_dtype(dtype if dtype not in (None, "auto") else torch_dtype))
        model.eval()
        model.for_inference()
        self.device = torch.device(model.device)
        self.encoder = TextEncoder(tokenizer, model)
        self.batch_size = _positive("batch_size", batch_size)
        self.num_workers = num_workers
        self.defaults: O = self.Options()
        self.defaults = self.options(options)

    # The three steps.

    @abstractmethod
    def preprocess(self, inputs: Sequence[Any], options: O) -> list[Prepared]:
        """Check and tokenize some inputs."""

    @abstractmethod
    def forward(self, rows: Sequence[Row], options: O) -> Sequence[Any]:
        """Run the model on one batch of rows; one output a row, none of them None."""

    @abstractmethod
    def postprocess(self, prepared: Prepared, outputs: Sequence[Any], options: O) -> Any:
        """The answer to one input from the outputs of its rows."""

    # Calls.

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **options: Any
    ) -> Any:
        """Answer one input, a list of inputs or a stream of them.

        `batch_size` forces batches of that many, in input order. `num_workers` is accepted for compatibility: the
        tokenizer uses all cores by itself. The other keywords are the task's options, for this call alone.
        """
        chosen = self.options(options) if options else self.defaults
        size = _positive("batch_size", batch_size) or self.batch_size
        if self.is_single(inputs):
            return self._answer(inputs, chosen, size)
        if isinstance(inputs, Sequence) or hasattr(inputs, "tolist"):
            inputs = inputs if isinstance(inputs, Sequence) else inputs.tolist()
            return list(self._answers(inputs, chosen, size, at_once=True))
        return self._stream(inputs, chosen, size)

    def stream(self, inputs: Iterable[Any], *, batch_size: int | None = None, **options: Any) -> Results:
        """Answers to any iterable of inputs, lists too, one by one as they are ready."""
        return self._stream(inputs, self.options(options), _positive("batch_size", batch_size) or self.batch_size)

    def transform(self, X: Any) -> Any:
        """The call, under scikit-learn's name."""
        return self(X)

    predict = transform

    def is_single(self, inputs: Any) -> bool:
        """Whether `inputs` is one input rather than several."""
        return isinstance(inputs, (str, bytes, Mapping))

    def options(self, given: Mapping[str, Any]) -> O:
        """The pipeline's own options, changed by those given; unknown names are an error."""
        if not given:
            return self.defaults
        names = {field.name for field in dataclasses.fields(self.Options)} - {"tokenizer_arguments"}
        changes: dict[str, Any] = {}
        arguments = dict(self.defaults.tokenizer_arguments)
        for name, value in _flat(given):
            known = self.Options.aliases.get(name, name)
            if known in TOKENIZER_ARGUMENTS:
                arguments[known] = value
            elif known in names:
                changes[known] = value
            else:
                raise self._unknown(name, sorted(names | TOKENIZER_ARGUMENTS | set(self.Options.aliases)))
        return dataclasses.replace(self.defaults, tokenizer_arguments=arguments, **changes)

    def _unknown(self, name: str, known: Sequence[str]) -> InputError:
        near = difflib.get_close_matches(name, [*known, *self.further], n=3)
        meant = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        return InputError(
            f"{type(self).__name__} has no option {name!r}.", f"{meant}The options are: {', '.join(known)}."
        )

    # Running.

    def _stream(self, inputs: Any, options: O, size: int | None) -> Results:
        if hasattr(inputs, "__iter__"):
            source = iter(inputs)
        elif hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__"):
            source = (inputs[index] for index in range(len(inputs)))
        else:
            raise InputError(
                f"The input is of type {type(inputs).__name__}.",
                "Pass a text, a list of texts, a dataset or an iterator over texts.",
            )
        length = len(inputs) if hasattr(inputs, "__len__") else None
        return Results(self._answers(source, options, size), length)

    def _answer(self, item: Any, options: O, size: int | None) -> Any:
        prepared = self.preprocess((item,), options)
        rows = prepared[0].rows
        if len(rows) > 1:
            return next(self._run(prepared, options, size))
        with torch.inference_mode():
            outputs = self.forward(rows, options)
        return self.postprocess(prepared[0], outputs, options)

    def _answers(self, inputs: Iterable[Any], options: O, size: int | None, at_once: bool = False) -> Iterator[Any]:
        if size is not None or at_once:
            largest = size or self.window
            cut = windows(inputs, largest, first=largest, patience=math.inf)
        else:
            cut = windows(inputs, self.window)
        for window in cut:
            yield from self._run(self.preprocess(window, options), options, size)

    def _run(self, prepared: Sequence[Prepared], options: O, size: int | None) -> Iterator[Any]:
        rows = [row for one in prepared for row in one.rows]
        outputs: list[Any] = [None] * len(rows)
        ready = start = 0
        for group in self._groups(rows, size):
            with torch.inference_mode():
                computed = self.forward([rows[index] for index in group], options)
            for index, output in zip(group, computed, strict=True):
                outputs[index] = output
            while ready < len(prepared):
                end = start + len(prepared[ready].rows)
                if any(output is None for output in outputs[start:end]):
                    break
                yield self.postprocess(prepared[ready], outputs[start:end], options)
                ready, start = ready + 1, end

    def _groups(self, rows: Sequence[Row], size: int | None) -> list[list[int]]:
        if size is not None:
            return in_order(len(rows), size)
        tokens = CPU_TOKENS if self.device.type == "cpu" else ACCELERATOR_TOKENS
        may_pad = self.tokenizer.pad_token_id is not None
        return by_length([len(row.ids) for row in rows], tokens, may_pad=may_pad)

    # Around the model.

    @property
    def bare_model(self) -> Any:
        """The model itself, where one with adapters wraps it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    def _require_head(self) -> None:
        """Refuse a model of ours whose head is another task's."""
        name = type(self.bare_model).__name__
        task = TASKS.get(task_name(self.task) or "")
        if task is None or task.auto == "AutoModel" or name not in public_names():
            return
        if not name.endswith(AUTO_CLASSES[task.auto]):
            raise InputError(
                f"{self.task} was given a {name}.", f"Load the model with {task.auto}.from_pretrained(...)."
            )

    def save_pretrained(
        self,
        save_directory: str | PathLike[str],
        *,
        safe_serialization: bool = True,
        max_shard_size: int | str = "50GB",
    ) -> None:
        """Write the model and the tokenizer into a folder that `pipeline(task, model=folder)` loads."""
        self.model.save_pretrained(save_directory, safe_serialization=safe_serialization, max_shard_size=max_shard_size)
        self.tokenizer.save_pretrained(save_directory)

    @property
    def dtype(self) -> torch.dtype:
        """The model's data type."""
        return self.model.dtype

    torch_dtype = dtype

    @property
    def framework(self) -> str:
        """Always "pt"."""
        return "pt"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={type(self.model).__name__}, dtype={self.dtype}, device={self.device})"


def resolve_device(device: int | str | torch.device | None) -> torch.device:
    """The device meant by a pipeline's argument: None is the first accelerator or the CPU, -1 the CPU."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        return torch.device("cpu" if accelerator is None else accelerator.type)
    if isinstance(device, int):
        if device < 0:
            return torch.device("cpu")
        if accelerator is None:
            warn(f"device={device} was given and no accelerator was found: the pipeline runs on the CPU.")
            return torch.device("cpu")
        return torch.device(accelerator.type, device)
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device={device!r} is not a device.", 'Use for example "cpu" or "cuda:0".') from error
    if wanted.type not in ("cpu", "meta", None if accelerator is None else accelerator.type):
        raise InputError(f"device={str(device)!r} is not available here.", 'Use device="cpu", or leave device out.')
    return wanted


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """The torch data type meant by an argument such as "float16" or torch.float16."""
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype):
        raise InputError(f"dtype={dtype!r} is not a data type.", 'Use for example "float32" or torch.bfloat16.')
    return found


def _positive(name: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(f"{name}={value!r} was given.", "Give a whole number of at least 1, or leave it out.")
    return value


def _flat(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The options with the dictionary of tokenizer arguments, if any, unpacked."""
    for name, value in given.items():
        if name not in ("tokenizer_kwargs", "tokenize_kwargs"):
            yield name, value
            continue
        for inner, inner_value in (value or {}).items():
            if inner in given:
                raise InputError(f"{inner!r} is given twice, by name and in {name}.", "Give it once.")
            yield inner, inner_value
