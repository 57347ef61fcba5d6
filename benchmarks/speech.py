"""Speech as what is measured: 60 s that espeak-ng says, through Whisper tiny.en, greedily and in float32."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing import SKIPPED, timed

Report = dict[str, Any]

MODEL = "openai/whisper-tiny.en"
RATE = 16000
SECONDS = 60
# What the model hears at once; all contenders get both halves in one call.
PIECE = 30
RUNS = 3
TEXT = """
The quick brown fox jumps over the lazy dog. On a cold morning in November, the ship left the harbour with forty two
passengers and a crew of nine. Nobody on board knew that the weather would change before noon. The captain, a quiet man
from the north, looked at the sky and ordered the sails to be taken in. By the time the storm arrived, everything was
ready. They waited below deck, telling stories about other voyages and other storms. In the evening the wind died down,
and the stars came out one by one. The next day they reached the island, where the people welcomed them with bread and
hot soup. It was, the captain wrote in his diary, a good day after all. He closed the book, blew out the lamp, and slept
until the morning. When he woke, the sea was calm, and the sun stood high above the hills. There was work to do. The
mast had to be mended, the barrels had to be filled, and somebody had to find the goat. In the afternoon the children of
the village came to see the ship, and the cook gave each of them a piece of cake.
"""


def speech(library: str, folder: Path) -> Report:
    """Two recordings of 30 s through a pipeline: the median seconds of some calls for a second of sound, and the texts.

    Both are decoded together, which transformers has to be told.
    """
    waves = _waves(folder)
    pipe = import_module(library).pipeline(
        "automatic-speech-recognition", model=str(folder / "whisper"), dtype="float32", device="cpu"
    )
    settings = {"batch_size": len(waves), "generate_kwargs": {"num_beams": 1, "do_sample": False}}
    return _report(lambda: [answer["text"] for answer in pipe(list(waves), **settings)])


def speech_ctranslate2(folder: Path) -> Report:
    """The same through CTranslate2, with the features and the tokenizer of formers."""
    waves = _waves(folder)
    import ctranslate2
    import numpy as np  # type: ignore[import-untyped]

    from formers import WhisperProcessor
    from formers.cli.machine import usable_cores

    processor = WhisperProcessor.from_pretrained(folder / "whisper")
    cores = max(1, round(usable_cores()))
    model = ctranslate2.models.Whisper(str(folder / "whisper-ct2"), compute_type="float32", intra_threads=cores)
    prompts = [["<|startoftranscript|>", "<|notimestamps|>"]] * len(waves)

    def transcribe() -> list[str]:
        features = processor(waves, sampling_rate=RATE, return_tensors="np").input_features
        found = model.generate(ctranslate2.StorageView.from_array(np.ascontiguousarray(features)), prompts, beam_size=1)
        return [processor.decode(one.sequences_ids[0], skip_special_tokens=True) for one in found]

    return _report(transcribe)


def prepare(folder: Path) -> None:
    """FOLDER/whisper, FOLDER/whisper-ct2 and FOLDER/speech.npy; FOLDER/speech.error where espeak-ng is missing."""
    import numpy as np

    from formers.audio.files import read
    from formers.hub.packages import KNOWN, find_package

    converted = find_package(MODEL)
    if converted is None:
        raise SystemExit(f"{MODEL} is not here: formers pull {MODEL}")
    (folder / "whisper").symlink_to(converted)
    package = distribution(KNOWN[MODEL].distribution)
    (folder / "whisper-ct2").symlink_to(Path(str(package.locate_file(KNOWN[MODEL].folder))))
    if shutil.which("espeak-ng") is None:
        (folder / "speech.error").write_text(f"{SKIPPED}it needs espeak-ng (Debian: apt-get install espeak-ng)")
        return
    said = subprocess.run(["espeak-ng", "-v", "en-gb", "-s", "140", "--stdout", TEXT], check=True, capture_output=True)
    np.save(folder / "speech.npy", np.resize(read(said.stdout, RATE).numpy(), SECONDS * RATE))


def _waves(folder: Path) -> list[Any]:
    """The recordings, float32 (N,)."""
    reason = folder / "speech.error"
    if reason.exists():
        sys.exit(reason.read_text())
    import numpy as np

    return list(np.split(np.load(folder / "speech.npy"), SECONDS // PIECE))


def _report(call: Callable[[], list[str]]) -> Report:
    call()
    calls = [timed(call) for _ in range(RUNS)]
    return {"seconds": median(seconds for seconds, _ in calls) / SECONDS, "answer": calls[0][1]}
