"""`formers run`: a task's pipeline over texts, or over the lines or rows of a file."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from formers.cli import generating, transcripts, writers
from formers.cli import rows as rows_module
from formers.cli.report import ProgressLine, exit_codes
from formers.cli.rows import STDIO, Row, Rows, from_file, from_texts
from formers.cli.sampling import device_of, quantize_of
from formers.cli.writers import Shown, Writer, writing
from formers.registry import TASK_ALIASES, TASKS, language_pair, task_name

OPTIONS: dict[str, tuple[str, ...]] = {
    "aggregation_strategy": ("token-classification",),
    "candidate_labels": ("zero-shot-classification",),
    "hypothesis_template": ("zero-shot-classification",),
    "multi_label": ("zero-shot-classification",),
    "pair_column": ("text-classification",),
    "question": ("question-answering",),
    "question_column": ("question-answering",),
    "targets": ("fill-mask",),
    "top_k": ("fill-mask", "question-answering", "text-classification", *generating.TASKS),
    **generating.OPTIONS,
    **transcripts.OPTIONS,
}
"""The options that not every task takes, and the tasks that take them."""

COLUMNS = {transcripts.TASK: "file", "question-answering": "context"}
"""Where a task's inputs are, if not in the column `text`."""

PREDICTED: dict[str, tuple[str, ...]] = {
    transcripts.TASK: ("text",),
    "feature-extraction": ("features",),
    "fill-mask": ("token_str", "sequence", "score"),
    "question-answering": ("answer", "score"),
    "summarization": ("summary_text",),
    "text-classification": ("label", "score"),
    "text-generation": ("generated_text",),
    "text2text-generation": ("generated_text",),
    "token-classification": ("word", "entity", "score"),
    "translation": ("translation_text",),
    "zero-shot-classification": ("label", "score"),
}
"""The keys of a prediction that a table shows."""


def _option(panel: str, help: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **settings)


def _task_option(name: str, help: str, **settings: Any) -> Any:
    return _option("For some tasks", f"{help} For {', '.join(OPTIONS[name])}.", _flag(name), **settings)


def _generation_option(help: str, *names: str, **settings: Any) -> Any:
    return _option(f"For {', '.join(generating.TASKS)}", help, *names, **settings)


def _one_task_option(task: str, help: str, *names: str, **settings: Any) -> Any:
    return _option(f"For {task}", help, *names, **settings)


_SOURCED = ", ".join(generating.SOURCED)


def run(
    task: Annotated[
        str,
        typer.Argument(
            help=f"One of: {', '.join(sorted({*TASKS, *TASK_ALIASES}))}; or translation_en_to_fr and the like."
        ),
    ],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="What to work on; without any, stdin is read.")
    ] = None,
    input: Annotated[
        str | None,
        _option("Input", "Read a .txt, .csv, .tsv or .jsonl file; - is stdin.", "--input", "-i", metavar="FILE"),
    ] = None,
    input_format: Annotated[
        str | None, _option("Input", "txt, csv, tsv or jsonl, where no file name says it.", metavar="FORMAT")
    ] = None,
    column: Annotated[
        str | None,
        _option(
            "Input", "Column of the texts (default: text, or the only one); in question answering, of the contexts."
        ),
    ] = None,
    output: Annotated[
        str,
        _option(
            "Output",
            "Write a .jsonl or .csv file, or of a recording .txt, .json, .srt or .vtt; - is stdout.",
            "--output",
            "-o",
            metavar="FILE",
        ),
    ] = STDIO,
    output_format: Annotated[
        str | None,
        _option(
            "Output",
            "table, jsonl or csv; of sound also text, json, srt or vtt (default: a table on a terminal, else jsonl).",
            metavar="FORMAT",
        ),
    ] = None,
    model: Annotated[
        str | None, _option("Model", "Model name or folder (default: the task's own).", "--model", "-m")
    ] = None,
    revision: Annotated[str | None, _option("Model", "Branch, tag or commit of the model on the hub.")] = None,
    device: Annotated[str | None, _option("Model", "cpu, cuda, cuda:1, mps, or a GPU's number.")] = None,
    dtype: Annotated[str | None, _option("Model", "float32, bfloat16, float16 or auto.")] = None,
    int8: Annotated[bool, _option("Model", "Load the model with 8 bits a weight.", "--int8")] = False,
    int4: Annotated[bool, _option("Model", "Load the model with 4 bits a weight.", "--int4")] = False,
    batch_size: Annotated[
        int | None, _option("Model", "Texts a batch (default: chosen by their lengths).", "--batch-size", "-b", min=1)
    ] = None,
    top_k: Annotated[
        int | None, _task_option("top_k", "How many predictions an input, or tokens to draw from.", min=1)
    ] = None,
    candidate_labels: Annotated[
        str | None, _task_option("candidate_labels", "The labels to choose from.", metavar="A,B,C")
    ] = None,
    hypothesis_template: Annotated[
        str | None, _task_option("hypothesis_template", "A sentence with {} for the label.")
    ] = None,
    multi_label: Annotated[
        bool | None, _task_option("multi_label", "Score each label by itself: several may be true.")
    ] = None,
    aggregation_strategy: Annotated[
        str | None,
        _task_option("aggregation_strategy", "How tokens become entities: none, simple, first, average or max."),
    ] = None,
    targets: Annotated[
        str | None, _task_option("targets", "The only words to fill the mask with.", metavar="A,B,C")
    ] = None,
    question: Annotated[str | None, _task_option("question", "One question, asked of every context.")] = None,
    question_column: Annotated[
        str | None, _task_option("question_column", "Column of the questions (default: question).")
    ] = None,
    pair_column: Annotated[
        str | None, _task_option("pair_column", "Column of second texts, to classify pairs.")
    ] = None,
    max_new_tokens: Annotated[
        int | None, _generation_option("The longest text, in tokens (default: 256).", min=1)
    ] = None,
    do_sample: Annotated[
        bool | None,
        _generation_option(
            "Draw tokens, or take the likeliest (default: draw in text-generation).", "--do-sample/--no-do-sample"
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        _generation_option("Higher is more varied, 0 takes the likeliest (default: 0.7 in text-generation).", min=0),
    ] = None,
    top_p: Annotated[float | None, _generation_option("Draw from the likeliest that make up this share.")] = None,
    seed: Annotated[int | None, _generation_option("The same prompt gets the same text.")] = None,
    num_beams: Annotated[
        int | None,
        _generation_option("Texts to follow at once, of which the likeliest is kept (default: 1 or 4).", min=1),
    ] = None,
    num_return_sequences: Annotated[int | None, _generation_option("How many texts a prompt.", min=1)] = None,
    json_schema: Annotated[str | None, _generation_option("The text is JSON of this schema.", metavar="FILE")] = None,
    regex: Annotated[str | None, _generation_option("The text matches this regular expression.")] = None,
    max_length: Annotated[
        int | None, _one_task_option(_SOURCED, "The longest answer, in tokens, the first one included.", min=1)
    ] = None,
    min_length: Annotated[int | None, _one_task_option(_SOURCED, "The shortest answer, in tokens.", min=0)] = None,
    truncation: Annotated[
        bool | None,
        _one_task_option(
            _SOURCED, "Cut texts to what the model is made for, or refuse.", "--truncation/--no-truncation"
        ),
    ] = None,
    src_lang: Annotated[str | None, _one_task_option("translation", "The language of the texts, as en_XX.")] = None,
    tgt_lang: Annotated[str | None, _one_task_option("translation", "The language to translate into.")] = None,
    timestamps: Annotated[
        str | None, _one_task_option(transcripts.TASK, "When it was said: segment or word.", metavar="UNIT")
    ] = None,
    language: Annotated[
        str | None, _one_task_option(transcripts.TASK, "The language that is spoken, as de or german.")
    ] = None,
    speech_task: Annotated[
        str | None, _one_task_option(transcripts.TASK, "transcribe, or translate into English.", "--task")
    ] = None,
    chat: Annotated[
        bool | None,
        _one_task_option(generating.TASK, "The prompt is a message to answer, not a text to continue.", "--chat"),
    ] = None,
    system: Annotated[
        str | None, _one_task_option(generating.TASK, "With --chat: what the model is told before all else.")
    ] = None,
    return_full_text: Annotated[
        bool | None, _one_task_option(generating.TASK, "Repeat the prompt before the new text.", "--return-full-text")
    ] = None,
) -> None:
    """Run a task on texts, or on the lines or rows of a file.

    Results come in the order of the inputs, each as soon as its batch is done: as a table on a terminal, as JSON lines
    in a pipe. An output file appears when it is complete.
    """
    name = _task(task)
    given = {
        "top_k": top_k,
        "candidate_labels": _listed(candidate_labels),
        "hypothesis_template": hypothesis_template,
        "multi_label": multi_label,
        "aggregation_strategy": aggregation_strategy,
        "targets": _listed(targets),
        "question": question,
        "question_column": question_column,
        "pair_column": pair_column,
        "max_new_tokens": max_new_tokens,
        "do_sample": do_sample,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "num_beams": num_beams,
        "num_return_sequences": num_return_sequences,
        "max_length": max_length,
        "min_length": min_length,
        "truncation": truncation,
        "src_lang": src_lang,
        "tgt_lang": tgt_lang,
        "timestamps": timestamps,
        "language": language,
        "task": speech_task,
        "json_schema": json_schema,
        "regex": regex,
        "chat": chat,
        "system": system,
        "return_full_text": return_full_text,
    }
    options = _given(given)
    _check(name, options)
    where = {each: options.pop(each, None) for each in ("question", "question_column", "pair_column")}
    loading = {
        "model": model,
        "revision": revision,
        "device": None if device is None else device_of(device),
        "dtype": dtype,
        "quantize": quantize_of(int8, int4),
        "batch_size": batch_size,
    }
    terminal = output == STDIO and sys.stdout.isatty()
    formats = (*writers.FORMATS, *(transcripts.FORMATS if name == transcripts.TASK else ()))
    format = _format(output, output_format, formats, "--output-format", "table" if terminal else "jsonl")

    prompt = generating.prompter(options)
    with exit_codes(), _source(name, texts, input, input_format) as rows:
        if name in generating.TASKS:
            options = generating.call_options(name, options)
        if name == transcripts.TASK:
            options = transcripts.call_options(options, format)
        if where["question"] is not None:
            rows = rows.with_column("question", where["question"])
        fields = _fields(name, rows, column, where["question_column"], where["pair_column"])
        if name == transcripts.TASK and fields.get("text") == "text":
            # Lines of paths: `text` is what is said in them.
            rows, fields = rows.renamed(fields["text"], "file"), {"text": "file"}
        with (
            _writing(output, format, Shown(tuple(fields.values()), _predicted(name, options))) as writer,
            ProgressLine(rows.total, shown=not terminal) as progress,
        ):
            from formers import pipeline

            pipe = pipeline(task if language_pair(task) else name, **_given(loading))
            if texts and name == generating.TASK and terminal and _single(texts, output_format, options):
                generating.show(pipe, prompt(texts[0]), options)
                return
            waiting: deque[Row] = deque()
            for first in rows:
                handed_over = _handed_over(chain([first], rows), rows.ready, fields, waiting, prompt)
                for result in pipe(handed_over, **options):
                    row = waiting.popleft()
                    writer.write(row, generating.flat(result) if name in generating.TASKS else result)
                    progress.advance(row.position)


def _writing(output: str, format: str, shown: Shown) -> AbstractContextManager[Writer]:
    return (
        transcripts.writing(output, format, *shown.inputs)
        if format in transcripts.FORMATS
        else writing(output, format, shown)
    )


def _single(texts: Sequence[str], format: str | None, options: Mapping[str, Any]) -> bool:
    """Whether one text comes out, which needs no table."""
    return len(texts) == 1 and format is None and options.get("num_return_sequences", 1) == 1


def _predicted(task: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    grouped = options.get("aggregation_strategy", "none") != "none"
    return tuple("entity_group" if each == "entity" and grouped else each for each in PREDICTED[task])


def _handed_over(
    rows: Iterable[Row],
    ready: Callable[[], bool],
    fields: Mapping[str, str],
    waiting: deque[Row],
    prompt: Callable[[str], Any],
) -> Iterator[Any]:
    """What the pipeline takes of each row; the row itself waits for its result, which comes in the same order.

    Ends when the next row is not there yet, so that the rows so far are answered meanwhile.
    """
    for row in rows:
        texts = {name: row.text(column) for name, column in fields.items()}
        waiting.append(row)
        yield texts if len(texts) > 1 else prompt(texts.popitem()[1])
        if not ready():
            return


def _source(task: str, texts: list[str] | None, file: str | None, format: str | None) -> AbstractContextManager[Rows]:
    if texts and (file or format):
        raise typer.BadParameter("There are texts on the command line already.", param_hint="--input")
    if texts:
        return nullcontext(from_texts(texts, COLUMNS.get(task, "text")))
    if file is None and sys.stdin is not None and sys.stdin.isatty():
        raise typer.BadParameter("Give one or more, or --input FILE, or pipe them in.", param_hint="TEXT")
    file = file or STDIO
    return from_file(file, _format(file, format, rows_module.FORMATS, "--input-format", "txt"))


def _fields(
    task: str, rows: Rows, column: str | None, question_column: str | None, pair_column: str | None
) -> dict[str, str]:
    """Which column each part of the pipeline's input is in. InputError, naming the option, if the input has none."""
    if not rows.columns:  # an empty input
        return {}
    if task == "question-answering":
        return {
            "question": rows.find(question_column, "question", "--question-column"),
            "context": rows.find(column, "context", "--column"),
        }
    fields = {"text": rows.find(column, COLUMNS.get(task, "text"), "--column")}
    if pair_column is not None:
        fields["text_pair"] = rows.find(pair_column, pair_column, "--pair-column")
    return fields


def _task(name: str) -> str:
    task = task_name(name)
    if task is not None:
        return task
    names = sorted({*TASKS, *TASK_ALIASES})
    near = get_close_matches(name, names, n=3, cutoff=0.5) or names
    raise typer.BadParameter(f"There is no task {name!r}. Did you mean {', '.join(near)}?", param_hint="TASK")


def _check(task: str, options: Mapping[str, Any]) -> None:
    for name in options:
        if task not in OPTIONS[name]:
            raise typer.BadParameter(f"It is for {', '.join(OPTIONS[name])}, not for {task}.", param_hint=_flag(name))
    if task == "zero-shot-classification" and not options.get("candidate_labels"):
        raise typer.BadParameter("The labels to choose from are missing: a,b,c.", param_hint="--candidate-labels")
    if "system" in options and "chat" not in options:
        raise typer.BadParameter("It is for chats: add --chat.", param_hint="--system")
    if "chat" in options and "return_full_text" in options:
        raise typer.BadParameter("The answer to a message has no prompt before it.", param_hint="--return-full-text")
    if "question" in options and "question_column" in options:
        raise typer.BadParameter("Give one question or a column of them, not both.", param_hint="--question")


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _format(file: str, named: str | None, known: Sequence[str], option: str, for_stdio: str) -> str:
    """The format that the option names, else the file's extension, else the one for stdin and stdout."""
    if named is None and file == STDIO:
        return for_stdio
    format = named or Path(file).suffix.lower().lstrip(".")
    if format in known:
        return format
    problem = f"There is no format {named!r}" if named else f"The name {file!r} does not say the format"
    raise typer.BadParameter(f"{problem}: choose among {', '.join(known)}.", param_hint=option)


def _listed(value: str | None) -> list[str] | None:
    return None if value is None else [each.strip() for each in value.split(",") if each.strip()]


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
