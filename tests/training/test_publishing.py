"""What a training sends to the hub, and what it says when it cannot."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from formers.errors import InputError
from tests.training.hub import TOKEN, UploadHub, serve
from tests.training.small import trainer

MODEL = {"config.json", "model.safetensors", "training_args.json"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    import huggingface_hub.constants as constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with serve() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        yield running


def make(folder: Path, **settings: Any) -> Any:
    return trainer(folder, **{"push_to_hub": True, "hub_token": TOKEN, "max_steps": 2, **settings})


def test_without_a_token_nothing_starts(tmp_path: Path, hub: UploadHub) -> None:
    with pytest.raises(InputError, match=r"no token to upload with.*hf auth login.*hub_token"):
        make(tmp_path, hub_token=None)
    with pytest.raises(InputError, match=r"'out' on the hub can be neither found nor made.*token may write"):
        make(tmp_path / "out", hub_token="hf_wrong")
    assert not hub.repos


def test_saving_the_model_sends_it(tmp_path: Path, hub: UploadHub) -> None:
    made = make(tmp_path / "tuned", hub_private_repo=True, hub_strategy="end", save_strategy="steps", save_steps=1)
    assert hub.repos == {"me/tuned": True}
    made.train()
    assert not hub.commits
    made.save_model()
    (commit,) = hub.commits
    assert (commit.repo, commit.revision, commit.message) == ("me/tuned", "main", "Model save")
    assert commit.files.keys() >= {*MODEL, "README.md", "metrics.jsonl"}
    assert not [name for name in commit.files if name.startswith((".", "checkpoint-"))]
    assert commit.files["model.safetensors"] == (tmp_path / "tuned" / "model.safetensors").read_bytes()
    assert TOKEN.encode() not in b"".join(commit.files.values())


def test_pushing_by_hand(tmp_path: Path, hub: UploadHub) -> None:
    made = trainer(tmp_path / "run", max_steps=1, hub_model_id="us/model")
    made.train()
    answer = made.push_to_hub("Done", token=TOKEN, revision="dev", tags=["small"], model_name="Mine", language="en")
    assert answer.commit_url.endswith("/us/model/commit/" + "b" * 40)
    (commit,) = hub.commits
    assert (commit.repo, commit.revision, commit.message) == ("us/model", "dev", "Done")
    card = commit.files["README.md"].decode()
    assert 'tags: ["small"]' in card
    assert 'language: "en"' in card
    assert "# Mine" in card
    hub.gate.clear()
    future = made.push_to_hub(blocking=False)
    assert not future.done()
    hub.gate.set()
    assert future.result(30).commit_url
    with pytest.raises(InputError, match=r"no colour\. It has language"):
        made.push_to_hub(colour="red")


@pytest.mark.parametrize(
    ("strategy", "folders"),
    [
        ("every_save", [set(), set()]),
        ("checkpoint", [{"last-checkpoint"}, {"last-checkpoint"}]),
        ("all_checkpoints", [{"checkpoint-1"}, {"checkpoint-2"}]),
    ],
)
def test_checkpoints_on_the_way(tmp_path: Path, hub: UploadHub, strategy: str, folders: list[set[str]]) -> None:
    made = make(
        tmp_path, hub_model_id="us/x", hub_strategy=strategy, hub_always_push=True, save_strategy="steps", save_steps=1
    )
    made.train()
    assert [commit.message for commit in hub.commits] == [
        "Training in progress, step 1",
        "Training in progress, step 2",
    ]
    for commit, expected in zip(hub.commits, folders, strict=True):
        assert {name.partition("/")[0] for name in commit.files if "/" in name} == expected
        assert {name for name in commit.files if "/" not in name} - {"README.md"} == MODEL
        for folder in expected:
            names = {name.partition("/")[2] for name in commit.files if name.startswith(folder)}
            assert names >= {*MODEL, "trainer_state.json", "optimizer.safetensors", "rng_state_0.json"}
    assert not list(tmp_path.glob(".*"))


def test_an_upload_under_way_is_not_waited_for(tmp_path: Path, hub: UploadHub) -> None:
    hub.gate.clear()
    made = make(tmp_path, save_strategy="steps", save_steps=1, max_steps=3)
    push = made.publisher.push_checkpoint

    def let_in_at_last(checkpoint: Path) -> None:
        push(checkpoint)
        if checkpoint.name == "checkpoint-3":
            hub.gate.set()

    made.publisher.push_checkpoint = let_in_at_last
    made.train()
    # Its files were still there, though the checkpoint itself was gone.
    assert [commit.message for commit in hub.commits] == ["Training in progress, step 1"]


def test_an_upload_that_fails_harms_nothing(tmp_path: Path, hub: UploadHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.broken = True
    made = make(tmp_path, hub_model_id="us/x", save_strategy="steps")
    with caplog.at_level(logging.WARNING, "formers"):
        assert made.train().global_step == 2
    assert "An upload to us/x failed" in caplog.text


def test_old_spellings(tmp_path: Path, hub: UploadHub) -> None:
    made = make(
        tmp_path, hub_token=None, push_to_hub_token=TOKEN, push_to_hub_model_id="x", push_to_hub_organization="us"
    )
    assert made.args.hub_model_id == "us/x"
    assert "us/x" in hub.repos
    assert "hf_" not in made.args.to_json_string()
