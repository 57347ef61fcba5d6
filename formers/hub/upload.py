"""Publishing a folder on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


def upload_folder(
    folder: str | PathLike[str], repo_id: str, *, private: bool | None = None, token: str | bool | None = None
) -> str:
    """Upload the files of `folder` to the model repository `repo_id`, made if need be; returns the commit's address."""
    make_repository(repo_id, private=private, token=token)
    return str(commit_folder(folder, repo_id, token=token).commit_url)


def make_repository(repo_id: str, *, private: bool | None = None, token: str | bool | None = None) -> str:
    """Make a model repository unless it is there; returns its full name, with the account's if it had none."""
    from huggingface_hub import HfApi

    return str(HfApi(token=token).create_repo(repo_id, private=private, exist_ok=True).repo_id)


def commit_folder(
    folder: str | PathLike[str],
    repo_id: str,
    *,
    token: str | bool | None = None,
    message: str | None = None,
    revision: str | None = None,
    ignore: Sequence[str] = (),
) -> CommitInfo:
    """Upload a folder's files as one commit to a repository that is there, to a branch `revision` of it.

    ignore: patterns of file names that stay here.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    return api.upload_folder(
        folder_path=Path(folder),
        repo_id=repo_id,
        commit_message=message,
        revision=revision,
        ignore_patterns=list(ignore),
    )
