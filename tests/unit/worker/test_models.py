"""Sealed models from a host's disk: exactly the one that its owner signed, or none (attacks F06, F07, I06)."""

import asyncio
import gc
import io
import os
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import openvino as ov
import pytest

from cloister.errors import InvalidRequest, NotReady, SealBroken
from cloister.seal.keys import Secret
from cloister.seal.manifest import PRECISIONS, ModelManifest
from cloister.seal.model_file import open_model, seal_model
from cloister.worker import models, weights
from cloister.worker.batches import Item
from cloister.worker.compiling import BASE_CONFIG
from cloister.worker.memory import MemoryBudget
from cloister.worker.sealed_source import SEALED_NAME
from cloister.worker.tuning import Tunings
from fakes import clocks, networks

CONFIG = {"INFERENCE_PRECISION_HINT": "f32"}
KEY = Secret(bytes(range(32)))


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory):
    return networks.ir(networks.tiny(), tmp_path_factory.mktemp("tiny"))


class Disk:
    """A models folder with one sealed model in it."""

    def __init__(self, folder, files, name="tiny", version=3):
        self.folder = folder
        out = io.BytesIO()
        sealed = seal_model(
            {inner: io.BytesIO(content) for inner, content in files.items()}, out, KEY, name=name, version=version
        )
        self.raw = out.getvalue()
        self.path = folder / name / str(version) / SEALED_NAME
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(self.raw)
        self.manifest = ModelManifest(
            name=name,
            version=version,
            digest=sealed.digest,
            size_bytes=sealed.size_bytes,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            files=sealed.header.files,
        )

    def load(self, memory=None, **changes):
        return models.load(
            self.folder,
            replace(self.manifest, **changes),
            KEY,
            threads=0,
            parallel=2,
            most_rows=8,
            tunings=Tunings(clocks.quick()),
            room=(memory or MemoryBudget(0)).room("tiny@3"),
        )


@pytest.fixture
def disk(tmp_path, tiny_files):
    return Disk(tmp_path, tiny_files)


def test_what_was_sealed_is_what_is_evaluated(disk):
    engine = disk.load()
    x = np.ones((2, networks.FEATURES), np.float32)
    compiled = ov.Core().compile_model(networks.tiny(), "CPU", engine.config)
    (found,) = engine.infer_now([Item({"x": x}, ("p",))])
    assert np.array_equal(found["p"], compiled.create_infer_request().infer({"x": x})["p"])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_owner_says_what_it_is_computed_in(tmp_path, precision):
    """Or the model is refused: OpenVINO itself would quietly compute in something else where the CPU lacks it."""
    disk = Disk(tmp_path / "models", networks.ir(networks.wide(), tmp_path))
    x = np.random.default_rng(2).standard_normal((3, networks.FEATURES)).astype(np.float32)
    compiled = ov.Core().compile_model(networks.wide(), "CPU", {**BASE_CONFIG, "INFERENCE_PRECISION_HINT": precision})
    if compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() != precision:
        assert precision != "f32"
        with pytest.raises(InvalidRequest) as caught:
            disk.load(precision=precision)
        assert caught.value.reason == "model.precision_unsupported"
        return
    engine = disk.load(precision=precision)
    assert engine.properties["precision"] == precision
    (found,) = engine.infer_now([Item({"x": x}, ("sum",))]) if engine.quick(Item({"x": x}, ("sum",))) else [None]
    alone = found or asyncio.run(engine.infer(Item({"x": x}, ("sum",))))
    truth = ov.Core().compile_model(networks.wide(), "CPU", engine.config).create_infer_request().infer({"x": x})["sum"]
    assert alone["sum"].tobytes() == truth.tobytes()


@pytest.mark.attack("I06")
def test_nothing_of_openvinos_that_writes_is_on():
    """Its caches on disk, its counters, and its log."""
    core = ov.Core()
    compiled = core.compile_model(networks.tiny(), "CPU", dict(BASE_CONFIG))
    assert core.get_property("CACHE_DIR") == ""
    assert compiled.get_property("PERF_COUNT") == "NO"
    assert compiled.get_property("LOG_LEVEL").name == "NO"


@pytest.mark.attack("I06")
def test_nothing_is_written(disk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    disk.load()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("at", [0, 20, 200, -1, -16, -17])
def test_a_changed_byte(disk, at):
    raw = bytearray(disk.raw)
    raw[at] ^= 1
    disk.path.write_bytes(raw)
    with pytest.raises(SealBroken):
        disk.load()


@pytest.mark.parametrize("raw", [b"", b"short"])
def test_another_length(disk, raw):
    for content in (raw, disk.raw[:-1], disk.raw + b"\0"):
        disk.path.write_bytes(content)
        with pytest.raises(NotReady) as caught:
            disk.load()
        assert caught.value.reason == "model.other"


def test_a_sparse_giant_is_not_read(disk):
    os.truncate(disk.path, 1 << 40)
    with pytest.raises(NotReady):
        disk.load()


def test_no_file(disk):
    disk.path.unlink()
    with pytest.raises(NotReady) as caught:
        disk.load()
    assert caught.value.reason == "model.missing"


def test_a_link_is_not_followed(disk, tmp_path):
    disk.path.rename(tmp_path / "elsewhere")
    disk.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotReady):
        disk.load()


def test_a_pipe_does_not_hang(disk):
    disk.path.unlink()
    os.mkfifo(disk.path)
    with pytest.raises(NotReady):
        disk.load()


@pytest.mark.attack("I04")
def test_another_model_or_version_under_the_same_key(tmp_path, tiny_files, disk):
    other = Disk(tmp_path / "other", tiny_files, name="tiny", version=2)
    disk.path.write_bytes(other.raw)
    with pytest.raises(SealBroken):
        disk.load(size_bytes=len(other.raw))


def test_another_digest(disk):
    with pytest.raises(SealBroken):
        disk.load(digest=bytes(32))


def refused(files):
    with pytest.raises(InvalidRequest) as caught:
        models.read({name: memoryview(content) for name, content in files.items()})
    assert caught.value.reason == "model.refused"


def test_onnx_from_memory():
    model, _ = models.read({"model.onnx": memoryview(networks.onnx())})
    assert [port.get_any_name() for port in model.inputs] == ["x"]


def test_refused_models(tiny_files):
    xml = bytes(tiny_files["model.xml"])
    refused({})
    refused({"readme.md": b"hello"})
    refused({"a.xml": xml, "b.xml": xml})
    refused({"a.onnx": networks.onnx(), "b.xml": xml})
    refused({"a.onnx": networks.onnx(external=True)})
    refused({"a.onnx": b"\x08\x01"})
    refused({"model.xml": xml})
    refused({"model.xml": b"<net version='11'><layers></layers></net>", "model.bin": b""})
    refused({"model.xml": xml.replace(b"version=", b"<!DOCTYPE x> version=", 1), "model.bin": b""})


def test_a_constant_that_broadcasts_beyond_memory(tmp_path):
    ops = ov.opset13
    huge = ops.broadcast(ops.constant(np.float32(1)), ops.constant(np.array([1 << 20, 1 << 20])))
    x = ops.parameter([-1], np.float32, name="x")
    model = ov.Model([ops.result(ops.add(x, ops.reduce_sum(huge, ops.constant([0, 1]), keep_dims=False)))], [x], "huge")
    refused(networks.ir(model, tmp_path))


def test_a_model_that_keeps_state(tmp_path):
    ops = ov.opset13
    x = ops.parameter([1, 3], np.float32, name="x")
    before = ops.read_value(ops.constant(np.zeros((1, 3), np.float32)), "memory")
    total = ops.add(x, before)
    kept = ops.assign(total, "memory")
    refused(networks.ir(ov.Model([ops.result(total)], [kept], [x], "running sum"), tmp_path))


@pytest.mark.attack("I11")
def test_a_model_whose_activations_do_not_fit_is_not_compiled(disk):
    memory = MemoryBudget(1)
    with pytest.raises(NotReady) as raised:
        disk.load(memory)
    assert raised.value.reason == "memory.full"


def test_weights_are_evaluated_where_they_were_opened_and_live_as_long_as_the_model(tmp_path):
    """One copy in the clear, aligned; nothing but OpenVINO refers to it once the model is read."""
    files = {"model.xml": b"", "model.bin": b""}
    files |= networks.ir(networks.wide(), tmp_path / "wide")
    out = io.BytesIO()
    sealed = seal_model(
        {name: io.BytesIO(content) for name, content in files.items()}, out, KEY, name="w", version=1, chunk_bytes=4096
    )
    out.seek(0)
    opened = open_model(out, KEY, name="w", version=1, digest=sealed.digest, buffer=weights.PlainRoom().room_for)
    content = opened.files["model.bin"]
    begin = np.frombuffer(content, np.uint8).ctypes.data
    tensor = weights.tensor_of(content)
    assert (tensor.data.ctypes.data, tensor.get_byte_size()) == (begin, len(content))
    assert begin % 64 == 0
    model, _ = models.read(opened.files)
    del opened, content, tensor
    gc.collect()
    junk = [np.full(len(files["model.bin"]), 255, np.uint8) for _ in range(8)]
    x = np.ones((2, networks.FEATURES), np.float32)
    ours, theirs = (ov.Core().compile_model(each, "CPU", CONFIG)(x)[0] for each in (model, networks.wide()))
    assert ours.tobytes() == theirs.tobytes()
    assert len(junk) == 8


@pytest.mark.attack("I04")
async def test_what_was_decrypted_is_overwritten_when_its_model_goes_or_does_not_load(disk, monkeypatch):
    rooms = []
    make = weights.PlainRoom.room_for

    def kept(self, header):
        rooms.append(make(self, header))
        return rooms[-1]

    monkeypatch.setattr(weights.PlainRoom, "room_for", kept)
    engine = disk.load()
    assert any(rooms[0])
    await engine.close()
    assert not any(rooms[0])
    with pytest.raises(NotReady):
        disk.load(MemoryBudget(1))
    with pytest.raises(SealBroken):
        disk.load(digest=bytes(32))
    assert [any(room) for room in rooms] == [False] * 3
