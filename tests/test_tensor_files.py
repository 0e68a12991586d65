"""Tensors out of files of ``torch.save``, read without following what their pickles say."""

import io
import zipfile

import pytest
import torch
from torch import nn

from entropic_rl.sb3.tensors import read_tensors


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return open, ("ran", "w")


def torched(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zipped(parts):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def unzipped(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"])
def test_tensors_are_read_as_torch_reads_them(dtype):
    numbers = (torch.arange(24) % 7).to(getattr(torch, dtype))
    content = {
        "whole": numbers.view(2, 3, 4), "turned": numbers.view(4, 6).T, "part": numbers[5:9], "empty": numbers[:0],
        "single": numbers[3], "parameter": nn.Parameter(torch.ones(2)),
        "nested": [{"a": (numbers, 1, None, True, 0.5)}],
        "long": {str(i): i for i in range(1500)}, "tuple": (1, 2, 3, 4), "far": 2**40, "below": -5,
    }  # fmt: skip
    read, expected = (reader(torched(content)) for reader in (read_tensors, torch_load))
    torch.testing.assert_close(read, expected, rtol=0, atol=0)
    assert [x.dtype for x in (read["whole"], read["part"])] == [getattr(torch, dtype)] * 2


def torch_load(content):
    return torch.load(io.BytesIO(content), weights_only=True)


def test_whole_state_of_a_module_is_read_with_its_notes_left_out():
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    read = read_tensors(torched(state))
    assert list(read) == list(state)
    torch.testing.assert_close(read, dict(state), rtol=0, atol=0)


class Sized:
    """Is unpickled as a tensor of a shape of its own choice."""

    def __init__(self, size, stride, offset=0):
        self.arguments = (torch.zeros(4).untyped_storage(), offset, size, stride)

    def __reduce__(self):
        storage, *rest = self.arguments
        typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
        return torch._utils._rebuild_tensor_v2, (typed, *rest, False, {})


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((5,), (1,), 0), ((2,), (1,), 3), ((2,), (4,), 0), ((10**9,), (0,), 0), ((-1,), (1,), 0), ((2,), (-1,), 1),
     ((1,), (1,), -1), ((2,), (1, 1), 0), (("x",), (1,), 0), (4, 1, 0)],
)  # fmt: skip
def test_tensor_that_its_numbers_do_not_fill_is_refused(size, stride, offset):
    assert read_tensors(torched({"x": Sized((2, 2), (2, 1))}))["x"].shape == (2, 2)
    with pytest.raises(ValueError, match=r"damaged|expected a tuple"):
        read_tensors(torched({"x": Sized(size, stride, offset)}))


def test_every_byte_of_the_description_can_be_wrong_without_anything_being_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(io.BytesIO(torched({"a": torch.ones(2), "b": [Bomb()]}))) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    [described] = [name for name in parts if name.endswith("data.pkl")]
    original, outcomes = parts[described], set()
    for place in range(len(original)):
        for value in (0, 0x29, 0x52, 0x7D, 0xFF):
            damaged = original[:place] + bytes([value]) + original[place + 1 :]
            try:
                read_tensors(zipped(parts | {described: damaged}))
                outcomes.add("read")
            except ValueError:
                outcomes.add("refused")
    assert "refused" in outcomes
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(Bomb(), "it would call"), ({"a": Bomb()}, "it would call"), ({1, 2}, "it would call"),
     (torch.device("cpu"), "it would call"), (slice(1), "it would call"),
     (b"bytes", "it would call")],
)  # fmt: skip
def test_what_is_no_tensor_is_refused(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_tensors(torched(content))
    assert not (tmp_path / "ran").exists()


def test_numbers_of_another_byte_order_are_refused():
    parts = unzipped(torched(torch.ones(2)))
    [name] = [name for name in parts if name.endswith("byteorder")]
    with pytest.raises(ValueError, match="byte order, got big"):
        read_tensors(zipped(parts | {name: b"big"}))


def test_numbers_are_taken_out_of_the_file_and_from_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").write_bytes(bytes(8))
    parts = unzipped(torched(torch.ones(2)))
    [described] = [name for name in parts if name.endswith("data.pkl")]
    assert b"X\x01\x00\x00\x000" in parts[described]
    outside = parts[described].replace(b"X\x01\x00\x00\x000", b"X\x07\x00\x00\x00../../0")
    with pytest.raises(ValueError, match="no item named"):
        read_tensors(zipped(parts | {described: outside}))
