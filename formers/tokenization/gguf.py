"""The tokenizer that a GGUF file describes: its vocabulary and merges or scores, special tokens and chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, pre_tokenizers

from formers.errors import ConfigError, UnsupportedError
from formers.hub.gguf import GGUFFile
from formers.tokenization import causal
from formers.tokenization.build import merges_of

_CONTROL, _USER_DEFINED = 3, 4
_TOKENS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_SPACE = "▁"

# How byte-level vocabularies cut texts, by the names in `tokenizer.ggml.pre`; GPT-2's way under any other name.
_PATTERNS = {
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0"), causal.LLAMA3),
    **dict.fromkeys(("lfm2", "jina-v5-nano", "dbrx", "smaug-bpe"), causal.LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2"), causal.QWEN2),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), causal.GPT4O),
    "tekken": causal.TEKKEN,
    "bloom": causal.BLOOM,
}


def read(path: Path) -> dict[str, Any]:
    """The settings of a tokenizer, its engine among them."""
    file = GGUFFile(path)
    kind = file.get("tokenizer.ggml.model")
    tokens = _list(file, "tokens", str)
    if kind is None or not tokens:
        raise ConfigError(f"{path} holds no tokenizer.", "Load the tokenizer of the model it was made from.")
    if kind == "gpt2":
        engine = _byte_level(file, tokens)
    elif kind == "llama":
        engine = _sentencepiece(file, tokens)
    else:
        raise UnsupportedError(
            f"{path} holds a tokenizer of the kind {kind!r}; formers reads 'gpt2' and 'llama' from GGUF.",
            "Load the tokenizer of the model it was made from.",
        )
    _add_tokens(engine, tokens, _list(file, "token_type", int), byte_level=kind == "gpt2")
    settings: dict[str, Any] = {"engine": engine}
    for name, key in _TOKENS.items():
        index = file.get(f"tokenizer.ggml.{key}_token_id")
        if index is not None:
            if not isinstance(index, int) or not 0 <= index < len(tokens):
                raise ConfigError(
                    f"{path} gives its {name} the id {index!r}, and has {len(tokens)} tokens.", "Fetch it again."
                )
            settings[name] = tokens[index]
    # Files from before the flag hold vocabularies of Llama, which begin texts with bos.
    settings["add_bos_token"] = bool(file.get("tokenizer.ggml.add_bos_token", kind == "llama"))
    settings["add_eos_token"] = bool(file.get("tokenizer.ggml.add_eos_token", False))
    template = _templates(file)
    if template is not None:
        settings["chat_template"] = template
    return settings


def _byte_level(file: GGUFFile, tokens: list[str]) -> Tokenizer:
    name = file.get("tokenizer.ggml.pre")
    spell = _byte_spelling()
    alphabet = set(spell.values())
    vocab = {
        token if alphabet.issuperset(token) else "".join(spell[byte] for byte in token.encode()): index
        for index, token in enumerate(tokens)
    }
    engine = causal.byte_level(vocab, _merges(file), _PATTERNS.get(name))
    if name == "falcon":
        engine.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Punctuation("contiguous"),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
                pre_tokenizers.Digits(individual_digits=False),
                pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
            ]
        )
    return engine


def _byte_spelling() -> dict[int, str]:
    """The character that stands for each byte: itself where it is visible, else one from 256 on."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {**{byte: chr(byte) for byte in visible}, **{byte: chr(256 + n) for n, byte in enumerate(hidden)}}


def _sentencepiece(file: GGUFFile, tokens: list[str]) -> Tokenizer:
    is_gemma = str(file.get("general.architecture", "")).startswith("gemma")
    if is_gemma:
        # Runs of spaces stand as such in the file, and texts are cut at "▁".
        tokens = [_SPACE * len(token) if token.strip(" ") == "" else token for token in tokens]
    vocab = {token: index for index, token in enumerate(tokens)}
    merges = _merges(file)
    if not merges and is_gemma:
        merges = merges_of(vocab, lambda token: vocab[token], longest_first=True)
    elif not merges:
        scores = dict(zip(tokens, _list(file, "scores", float), strict=False))
        if len(scores) < len(vocab):
            raise ConfigError(f"{file.path} has neither merges nor a score for every token.", "Fetch it again.")
        merges = merges_of(vocab, lambda token: -scores[token], longest_first=True)
    if is_gemma:
        return causal.gemma(vocab, merges, tokens[file.get("tokenizer.ggml.unknown_token_id", 3)])
    engine = causal.llama(vocab, merges, prefix_space=bool(file.get("tokenizer.ggml.add_space_prefix", True)))
    if file.get("general.architecture") == "phi3":
        causal.prepend_always(engine)
    return engine


def _merges(file: GGUFFile) -> list[tuple[str, str]]:
    pairs = [tuple(merge.split(" ")) for merge in _list(file, "merges", str)]
    if any(len(pair) != 2 for pair in pairs):
        raise ConfigError(f"{file.path} has a merge that is not of two tokens.", "Fetch it again.")
    return pairs


def _add_tokens(engine: Tokenizer, tokens: list[str], kinds: list[int], byte_level: bool) -> None:
    """Tokens that are whole wherever they stand in a text: control tokens are special, user-defined ones are not."""
    alphabet = set(_byte_spelling().values()) if byte_level else None
    added = []
    for token, kind in zip(tokens, kinds, strict=False):
        # With a character that is no byte's, the vocabulary has the token in another spelling.
        if kind in (_CONTROL, _USER_DEFINED) and token and (alphabet is None or alphabet.issuperset(token)):
            added.append(AddedToken(token, normalized=False, special=kind == _CONTROL))
    engine.add_tokens(added)


def _templates(file: GGUFFile) -> Any:
    default = file.get("tokenizer.chat_template")
    templates = {
        key.removeprefix("tokenizer.chat_template."): file.get(key)
        for key in file.metadata_keys()
        if key.startswith("tokenizer.chat_template.")
    }
    if not templates:
        return default
    return templates if default is None else {"default": default, **templates}


def _list(file: GGUFFile, name: str, kind: type) -> list[Any]:
    values = file.get(f"tokenizer.ggml.{name}", [])
    if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
        raise ConfigError(f"{file.path} gives tokenizer.ggml.{name} in another form than a list.", "Fetch it again.")
    return values
