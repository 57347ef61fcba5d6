"""Publishing a folder on the hub."""

from __future__ import annotations

from os import PathLike
from pathlib import Path


def upload_folder(
    folder: str | PathLike[str], repo_id: str, *, private: bool | None = None, token: str | bool | None = None
) -> str:
    """Upload the files of `folder` to the model repository `repo_id`, made if need be; returns the commit's address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo_id, private=private, exist_ok=True)
    return str(api.upload_folder(folder_path=Path(folder), repo_id=repo_id).commit_url)
