"""GGUF weights and configurations, against the models that the files were made from."""

from __future__ import annotations

from pathlib import Path

import pytest

gguf = pytest.importorskip("gguf")

import torch  # noqa: E402
import transformers  # noqa: E402

from formers.errors import ConfigError, InputError, UnsupportedError  # noqa: E402
from formers.hub import Source, resolve  # noqa: E402
from formers.hub.weights import open_weights  # noqa: E402
from tests.hub.gguf_models import MODELS, file_tensors, tiny, write  # noqa: E402


@pytest.fixture(scope="module", params=MODELS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A model of the reference, its tensors as safetensors files hold them, and a folder with it as GGUF."""
    model = tiny(request.param)
    tensors = file_tensors(model, tmp_path_factory.mktemp("reference"))
    folder = tmp_path_factory.mktemp("model")
    write(folder / "model.gguf", request.param, model.config, tensors)
    return model, tensors, folder


def test_tensors_are_those_of_the_model_by_name_and_value(made) -> None:
    _, tensors, folder = made
    weights = open_weights(resolve(folder))
    assert set(weights.keys()) == set(tensors) - ({"lm_head.weight"} - set(weights.keys()))
    for key in weights.keys():  # noqa: SIM118
        read = weights.tensor(key)
        assert weights.shape(key) == tuple(read.shape) == tuple(tensors[key].shape), key
        assert weights.dtype(key) is read.dtype is torch.float32
        torch.testing.assert_close(read, tensors[key], rtol=0, atol=2e-7, msg=key)


def test_the_reference_computes_the_same_with_the_configuration_and_the_weights(made) -> None:
    model, _, folder = made
    files = resolve(folder)
    config = transformers.AutoConfig.for_model(**files.read_config())
    twin = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    assert config.architectures == [type(twin).__name__]
    # Buffers, such as frequencies, are not in files: the configuration has to give the same ones.
    twin.load_state_dict(model.state_dict())
    ids = torch.arange(3, 43)[None] % 96
    with torch.no_grad():
        torch.testing.assert_close(twin(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-5)


def config_with(tmp_path: Path, case: str, extra) -> dict:
    model = tiny(case)
    write(tmp_path / "a.gguf", case, model.config, file_tensors(model, tmp_path), extra=extra)
    return resolve(tmp_path / "a.gguf").read_config()


def test_the_factors_of_llama_3_become_its_four_parameters(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = transformers.LlamaConfig(hidden_size=256, num_attention_heads=2, rope_parameters=rope)
    scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, device="cpu")
    plain = 10000.0 ** -(torch.arange(0, 128, 2) / 128)
    given = config_with(
        tmp_path, "llama", lambda writer: writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy())
    )
    assert given["rope_scaling"] == {key: value for key, value in rope.items() if key != "rope_theta"}


def test_other_factors_are_refused(tmp_path: Path) -> None:
    odd = torch.full((8,), 3.0).numpy()
    with pytest.raises(UnsupportedError, match=r"not Llama 3's. Use the original model"):
        config_with(tmp_path, "llama", lambda writer: writer.add_tensor("rope_freqs.weight", odd))


def test_factors_of_phi_3(tmp_path: Path) -> None:
    def add(writer) -> None:
        writer.add_tensor("rope_factors_long.weight", torch.full((4,), 2.5).numpy())
        writer.add_tensor("rope_factors_short.weight", torch.full((4,), 1.5).numpy())
        writer.add_rope_scaling_orig_ctx_len(64)

    given = config_with(tmp_path, "phi3", add)
    assert given["rope_scaling"] == {"type": "longrope", "long_factor": [2.5] * 4, "short_factor": [1.5] * 4}
    assert given["original_max_position_embeddings"] == 64


@pytest.mark.parametrize(("kind", "more"), [("linear", {}), ("yarn", {"original_max_position_embeddings": 64})])
def test_scaled_positions(tmp_path: Path, kind: str, more: dict) -> None:
    def add(writer) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(64)

    assert config_with(tmp_path, "qwen2", add)["rope_scaling"] == {"rope_type": kind, "factor": 4.0, **more}


def test_architectures_without_a_family_are_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "mamba")
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    with pytest.raises(UnsupportedError, match=r"architecture 'mamba'.*one of bloom, falcon"):
        resolve(tmp_path).read_config()


def test_metadata_of_a_wrong_kind_is_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_string("llama.attention.head_count", "many")
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    with pytest.raises(ConfigError, match=r"llama.attention.head_count as 'many'; expected is a whole number"):
        resolve(tmp_path).read_config()


def test_a_folder_with_several_files_wants_a_choice(tmp_path: Path) -> None:
    model = tiny("llama")
    tensors = file_tensors(model, tmp_path / "reference")
    for name in ("a.gguf", "b.gguf"):
        write(tmp_path / name, "llama", model.config, tensors)
    with pytest.raises(InputError, match=r"2 GGUF files: a.gguf, b.gguf. Choose one with `gguf_file`"):
        resolve(tmp_path).read_config()
    assert resolve(tmp_path, Source(gguf_file="b.gguf")).gguf == tmp_path / "b.gguf"
    with pytest.raises(InputError, match="Leave out `variant`"):
        open_weights(resolve(tmp_path / "a.gguf"), variant="fp16")


def test_a_model_in_parts(tmp_path: Path) -> None:
    from formers.errors import CheckpointError

    model = tiny("qwen2")
    tensors = file_tensors(model, tmp_path / "reference")
    later = {key: tensor for key, tensor in tensors.items() if ".layers.1." in key}
    first = {key: tensor for key, tensor in tensors.items() if key not in later}
    write(tmp_path / "m-00001-of-00002.gguf", "qwen2", model.config, first)
    with pytest.raises(CheckpointError, match=r"m-00002-of-00002.gguf is missing"):
        open_weights(resolve(tmp_path))
    write(tmp_path / "m-00002-of-00002.gguf", "qwen2", model.config, later)
    assert set(open_weights(resolve(tmp_path)).keys()) == set(tensors)
    with pytest.raises(CheckpointError, match=r"not the first part.*Pass m-00001-of-00002.gguf"):
        open_weights(resolve(tmp_path / "m-00002-of-00002.gguf"))
