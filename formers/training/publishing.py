"""What a training sends to the hub: the model when it is saved, and checkpoints on the way."""

from __future__ import annotations

import logging
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from formers.errors import InputError
from formers.hub.upload import commit_folder, make_repository
from formers.training import checkpoints
from formers.training.arguments import TrainingArguments
from formers.training.reporting import CARD

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

logger = logging.getLogger("formers")
# The parts of a checkpoint that only the training needs.
_PROGRESS = ("optimizer.*", "scheduler.json", "rng_state_*.json", checkpoints.STATE)
# What stays here of the output folder: checkpoints, and hidden files.
_OWN = (".*", "_*", "checkpoint-*", "run-*")


class Publisher:
    """The repository of a training. Uploads run one after the other, beside the training unless they are waited for.

    It is found or made at once, so that a missing right stops a training before its first step.
    """

    def __init__(self, args: TrainingArguments, token: str | None = None, private: bool | None = None) -> None:
        from huggingface_hub import get_token
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        self.args = args
        self.token = token or args.hub_token or get_token()
        if self.token is None:
            raise InputError(
                "There is no token to upload with.",
                "Log in with `hf auth login`, set the variable HF_TOKEN, or pass hub_token=.",
            )
        name = args.hub_model_id or Path(str(args.output_dir)).absolute().name
        try:
            self.repo_id = make_repository(
                name, private=args.hub_private_repo if private is None else private, token=self.token
            )
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise InputError(
                f"The repository {name!r} on the hub can be neither found nor made: {_line(error)}",
                "Check hub_model_id, the connection, and that the token may write; or leave push_to_hub out.",
            ) from error
        self._uploads = ThreadPoolExecutor(1)
        self._current: Future[CommitInfo] | None = None

    def push(
        self,
        message: str | None,
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
    ) -> CommitInfo | Future[CommitInfo]:
        """Upload the output folder without its checkpoints; returns the commit, or its future."""
        self.finish()
        self._current = self._uploads.submit(
            commit_folder,
            str(self.args.output_dir),
            self.repo_id,
            token=token or self.token,
            message=message,
            revision=revision or self.args.hub_revision,
            ignore=_OWN,
        )
        return self._current.result() if blocking else self._current

    def push_checkpoint(self, checkpoint: Path) -> None:
        """Upload what `hub_strategy` says of a checkpoint, beside the training.

        While an upload is under way, the next one is left out unless `hub_always_push` is set.
        """
        args = self.args
        busy = self._current is not None and not self._current.done()
        if args.hub_strategy == "end" or (busy and not args.hub_always_push):
            return
        self.finish()
        draft = self._draft(checkpoint)
        self._current = self._uploads.submit(
            commit_folder,
            draft,
            self.repo_id,
            token=self.token,
            message=f"Training in progress, {checkpoint.name.replace('checkpoint-', 'step ')}",
            revision=args.hub_revision,
        )
        self._current.add_done_callback(lambda _: shutil.rmtree(draft, ignore_errors=True))

    def _draft(self, checkpoint: Path) -> Path:
        """What is to be uploaded, as links: the checkpoint itself may be deleted before it is."""
        draft = checkpoint.with_name(f".{checkpoint.name}.{os.urandom(4).hex()}.tmp")
        folder = {"checkpoint": "last-checkpoint", "all_checkpoints": checkpoint.name}.get(self.args.hub_strategy)
        files = [path for path in checkpoint.rglob("*") if path.is_file()]
        for path in files:
            name = path.relative_to(checkpoint)
            if not any(fnmatch(name.name, pattern) for pattern in _PROGRESS):
                _link(path, draft / name)
            if folder is not None:
                _link(path, draft / folder / name)
        card = checkpoint.with_name(CARD)
        if card.is_file():
            _link(card, draft / CARD)
        return draft

    def finish(self) -> None:
        """Wait for the upload that is under way; one that failed is told, and harms nothing."""
        upload, self._current = self._current, None
        if upload is not None and (error := upload.exception()) is not None:
            logger.warning("An upload to %s failed: %s trainer.push_to_hub() tries again.", self.repo_id, _line(error))


def _line(error: BaseException) -> str:
    """An error's own lines as one."""
    return " ".join(str(error).split())


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
