"""`formers convert`: a model in GGUF, `pytorch_model.bin` or CTranslate2's format as safetensors, with the rest."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from formers.cli.report import ProgressLine, exit_codes
from formers.errors import InputError

if TYPE_CHECKING:
    import torch

    from formers.hub import ModelFiles
    from formers.hub.weights import Weights

_DTYPES = ("float32", "float16", "bfloat16")
# What models have besides their weights; GGUF files hold it themselves.
_KEPT = (
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def convert(
    model: Annotated[str, typer.Argument(help="A folder, a .gguf file, or a model's name.")],
    output: Annotated[Path, typer.Argument(help="The folder to make; it must not exist yet, or be empty.")],
    gguf_file: Annotated[str | None, typer.Option(help="Which GGUF file of the model, if it has several.")] = None,
    dtype: Annotated[str | None, typer.Option(help=f"{', '.join(_DTYPES)}; by default as it is stored.")] = None,
    max_shard_size: Annotated[str, typer.Option(help="The largest weight file, such as 5GB.")] = "50GB",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
) -> None:
    """Write a model from GGUF, pytorch_model.bin or CTranslate2 (Whisper) as safetensors, and print the folder.

    Quantized weights become float32, or --dtype. The folder appears when it is complete.
    """
    with exit_codes():
        from formers.hub import Source, resolve

        if dtype is not None and dtype not in _DTYPES:
            raise InputError(f"--dtype {dtype} is unknown.", f"Use one of {', '.join(_DTYPES)}.")
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(f"{output} exists and is not empty.", "Give the path of a new folder.")
        files = resolve(model, Source(revision=revision, gguf_file=gguf_file))
        output.parent.mkdir(parents=True, exist_ok=True)
        draft = output.parent / f".{output.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        draft.mkdir()
        try:
            write(files, draft, dtype, max_shard_size)
            if output.exists():
                output.rmdir()
            draft.rename(output)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        print(output)


def write(files: ModelFiles, folder: Path, dtype: str | None, max_shard_size: str) -> None:
    """Write weights, configuration and tokenizer into an existing folder."""
    import torch

    from formers.hub.atomic import write_json
    from formers.hub.ctranslate2_whisper import is_ctranslate2, write_folder
    from formers.hub.weights import open_weights, save_weights

    is_gguf = files.gguf is not None
    if not is_gguf and is_ctranslate2(files):
        write_folder(files, folder, dtype, max_shard_size)
        return
    config = files.read_config()
    weights = open_weights(files, use_safetensors=None if is_gguf else _bin_first(files))
    wanted = None if dtype is None else getattr(torch, dtype)
    tensors = _read(weights, wanted)
    kinds = [tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()]
    if kinds:
        config.pop("torch_dtype", None)
        config["dtype"] = str(max(kinds, key=kinds.count)).removeprefix("torch.")
    save_weights(tensors, folder, max_shard_size=max_shard_size)
    write_json(folder / "config.json", {name: value for name, value in config.items() if value is not None})
    if not is_gguf:
        for name in _KEPT:
            path = files.find(name)
            if path is not None:
                shutil.copyfile(path, folder / name)
    elif _has_tokenizer(files):
        from formers.tokenization import PreTrainedTokenizerFast
        from formers.tokenization.load import load_files

        load_files(PreTrainedTokenizerFast, files, (), {}).save_pretrained(folder)


def _bin_first(files: ModelFiles) -> bool | None:
    """Read `.bin` even beside safetensors: who has those needs no conversion, unless to another type."""
    from formers.hub.weights import TORCH_BIN

    return False if any(files.find(name) for name in (TORCH_BIN.name(None), TORCH_BIN.index(None))) else None


def _has_tokenizer(files: ModelFiles) -> bool:
    from formers.hub.gguf import GGUFFile

    path = files.gguf
    return path is not None and "tokenizer.ggml.tokens" in GGUFFile(path)


def _read(weights: Weights, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """All tensors; those that share their memory get some of their own, as safetensors want it."""
    tensors: dict[str, Any] = {}
    seen: set[int] = set()
    keys = weights.keys()
    with ProgressLine(len(keys)) as progress:
        for position, key in enumerate(keys, 1):
            tensor = weights.tensor(key)
            if dtype is not None and tensor.is_floating_point():
                tensor = tensor.to(dtype)
            if tensor.numel() and tensor.data_ptr() in seen:
                tensor = tensor.clone()
            seen.add(tensor.data_ptr())
            tensors[key] = tensor
            progress.advance(position)
    return tensors
