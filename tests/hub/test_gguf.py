"""The GGUF container: what the package gguf writes is read, what is damaged is refused with a reason."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

gguf = pytest.importorskip("gguf")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from formers.errors import CheckpointError, FormersError, MissingDependencyError, UnsupportedError  # noqa: E402
from formers.hub.gguf import GGUFFile  # noqa: E402
from formers.hub.gguf_types import TYPES, dequantize, dtype_of  # noqa: E402
from tests.hub.gguf_models import random_blocks  # noqa: E402

UNPACKED_BY_GGUF = [kind for kind in TYPES if TYPES[kind][0] not in ("Q8_1", "Q8_K", "Q1_0")]


def make(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("a.number", 7)
    writer.add_float32("a.float", 0.5)
    writer.add_bool("a.bool", True)
    writer.add_string("a.text", "Grüße")
    writer.add_array("a.words", ["a", "", "ü"])
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_tensor("plain", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("half", np.arange(4, dtype=np.float16))
    writer.add_tensor("packed", random_blocks(3, 4, 2), raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


def header(tensors: int = 0, entries: int = 0, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + body


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def test_metadata_and_tensors(tmp_path: Path) -> None:
    file = GGUFFile(make(tmp_path / "a.gguf"))
    found = {key: file.get(key) for key in file.metadata_keys() if key.startswith("a.")}
    assert found == {
        "a.number": 7,
        "a.float": 0.5,
        "a.bool": True,
        "a.text": "Grüße",
        "a.words": ["a", "", "ü"],
        "a.numbers": [1, 2, 3],
    }
    assert "a.text" in file
    assert file.get("other", 3) == 3
    assert file.tensors["packed"].shape == (4, 64)
    torch.testing.assert_close(file.tensor("plain"), torch.arange(6.0).view(2, 3))
    assert file.tensor("half").dtype is torch.float16
    torch.testing.assert_close(file.tensor("packed", 2), file.tensor("packed")[2])


def test_writing_to_a_tensor_never_reaches_the_file(tmp_path: Path) -> None:
    path = make(tmp_path / "a.gguf")
    before = path.read_bytes()
    GGUFFile(path).tensor("plain").fill_(9.0)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", UNPACKED_BY_GGUF, ids=lambda kind: TYPES[kind][0])
def test_every_type_that_gguf_unpacks_has_the_same_values(kind: int) -> None:
    quantization = gguf.GGMLQuantizationType(kind)
    assert TYPES[kind] == (quantization.name, *gguf.GGML_QUANT_SIZES[quantization])
    blocks = random_blocks(kind, 3, 400 if TYPES[kind][1] < 256 else 50)
    if dtype_of(kind).is_floating_point and dtype_of(kind) is not torch.float64:
        want = gguf.quants.dequantize(blocks, quantization)
    else:
        want = blocks.view(str(dtype_of(kind)).removeprefix("torch."))
    got = dequantize(torch.from_numpy(blocks).view(-1), kind, want.shape, "it")
    assert got.dtype is dtype_of(kind)
    assert np.array_equal(got.float().numpy(), want.astype(np.float32))


def test_all_types_of_the_package_are_known() -> None:
    assert {kind.value for kind in gguf.GGMLQuantizationType if kind in gguf.GGML_QUANT_SIZES} <= set(TYPES)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    data = torch.from_numpy(random_blocks(14, 5, 3)).view(-1)
    whole = dequantize(data, 14, (5, 768), "it")
    monkeypatch.setattr("formers.hub.gguf_types._CHUNK", 512)
    assert torch.equal(whole, dequantize(data, 14, (5, 768), "it"))


def test_a_type_that_nobody_unpacks_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"The tensor 'x' is of the type Q8_1.*another quantization"):
        dequantize(torch.zeros(40, dtype=torch.uint8), 9, (32,), "'x'")


def test_a_rare_type_without_the_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gguf", "gguf.constants", "gguf.quants"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'formers\[gguf\]'"):
        dequantize(torch.zeros(66, dtype=torch.uint8), 16, (256,), "'x'")


HUGE = 2**62
DAMAGED = {
    "empty": (b"", "does not begin as one"),
    "other": (b"PK\x03\x04" + bytes(60), "does not begin as one"),
    "short": (b"GGUF\x03\0\0\0", "ends in its header"),
    "entries": (header(entries=HUGE), f"{HUGE} metadata entries cannot fit in its 24 bytes"),
    "tensors": (header(tensors=HUGE), f"{HUGE} tensors cannot fit"),
    "long name": (header(entries=1, body=struct.pack("<Q", HUGE) + bytes(32)), f"a string of {HUGE} bytes"),
    "long text": (header(entries=1, body=text("k") + struct.pack("<IQ", 8, HUGE) + bytes(8)), "k, a string of"),
    "type": (header(entries=1, body=text("k") + struct.pack("<I", 77) + bytes(8)), "'k' is of the unknown type 77"),
    "numbers": (header(entries=1, body=text("k") + struct.pack("<IIQ", 9, 4, HUGE)), f"{HUGE} values of 'k'"),
    "some numbers": (header(entries=1, body=text("k") + struct.pack("<IIQ", 9, 4, 30)), "30 values of 'k'"),
    "strings": (header(entries=1, body=text("k") + struct.pack("<IIQ", 9, 8, HUGE)), f"{HUGE} strings of 'k'"),
    "string": (
        header(entries=1, body=text("k") + struct.pack("<IIQ", 9, 8, 2) + text("a") + struct.pack("<QQ", HUGE, 0)),
        f"a string of {HUGE} bytes does not fit",
    ),
    "nested": (header(entries=1, body=text("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(32)), "array of the unknown"),
    "twice": (header(entries=2, body=(text("k") + struct.pack("<II", 4, 1)) * 2), "'k' appears twice"),
    "not utf-8": (header(entries=1, body=struct.pack("<Q", 1) + b"\xff" + bytes(16)), "is not UTF-8"),
    "alignment": (
        header(entries=1, body=text("general.alignment") + struct.pack("<II", 4, 48)),
        "alignment is 48, which is no power of two",
    ),
    "dimensions": (header(tensors=1, body=text("t") + struct.pack("<I", 2**31) + bytes(32)), "2147483648 dimensions"),
    "offset": (
        header(tensors=1, body=text("t") + struct.pack("<IQIQ", 1, 8, 0, 2**40) + bytes(64)),
        "'t' .32 bytes at 1099511627840. does not lie in it",
    ),
    "size": (header(tensors=1, body=text("t") + struct.pack("<IQIQ", 1, HUGE, 0, 0) + bytes(64)), "does not lie in it"),
    "unaligned": (header(tensors=1, body=text("t") + struct.pack("<IQIQ", 1, 2, 0, 4) + bytes(64)), "not lie in it"),
    "blocks": (header(tensors=1, body=text("t") + struct.pack("<IQIQ", 1, 33, 2, 0) + bytes(64)), "Q4_0 blocks of 32"),
    "tensor twice": (
        header(tensors=2, body=(text("t") + struct.pack("<IQIQ", 1, 2, 0, 0)) * 2 + bytes(64)),
        "the tensor 't' appears twice",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    data, reason = DAMAGED[case]
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"not a whole GGUF file: .*{reason}.*Fetch it again"):
        GGUFFile(path)


@pytest.mark.parametrize(
    ("version", "words"), [(1, "GGUF file of version 1"), (9, "GGUF file of version 9"), (3 << 24, "big-endian")]
)
def test_other_versions_are_named(tmp_path: Path, version: int, words: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(header(version=version))
    with pytest.raises(UnsupportedError, match=f"is a {words}"):
        GGUFFile(path)


def test_unknown_types_of_tensors_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(header(tensors=1, body=text("t") + struct.pack("<IQIQ", 1, 2, 99, 0) + bytes(64)))
    with pytest.raises(UnsupportedError, match=r"'t' of .* is of the ggml type 99"):
        GGUFFile(path)


@settings(max_examples=150)
@given(data=st.data())
def test_a_changed_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = make(tmp_path_factory.getbasetemp() / "whole.gguf").read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    changed = bytearray(whole[:cut] if data.draw(st.booleans()) else whole)
    for _ in range(data.draw(st.integers(0, 3)) if changed else 0):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(changed)
    try:
        file = GGUFFile(path)
        for key in file.metadata_keys():
            file.get(key)
        for name in file.tensors:
            file.tensor(name)
    except FormersError:
        pass
