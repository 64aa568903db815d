"""Models of every format, real ones: what is served is what OpenVINO in process gives, and nothing touches a disk."""

import os
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from cloister.errors import NotReady
from cloister.worker import memory_folder, models
from cloister.worker.batches import Item
from cloister.worker.engine import OpenVinoEngine
from cloister.worker.ports import contract_of
from cloister.worker.refusals import ModelRefused
from fakes import networks
from fakes.refusals import because
from fakes.vector_models import SERVED, files_of, vector_model

DATATYPES = {"float32": "FP32", "int64": "INT64"}


async def answered(engine, item):
    if engine.quick(item):
        return engine.infer_now([item])[0]
    return await engine.infer(item)


def test_there_are_models_of_every_format():
    kinds = {Path(name).suffix for served in SERVED for name in vector_model(served).files}
    assert {".pb", ".onnx", ".tflite", ".pdmodel", ".pdiparams", ".index"} <= kinds


@pytest.mark.parametrize("name", SERVED)
async def test_answers_are_those_of_openvino_in_process_and_of_the_models_own_framework(name):
    given = vector_model(name)
    engine = OpenVinoEngine(models.read(given.files)[0])
    found = await answered(engine, Item(given.inputs, tuple(given.outputs)))
    await engine.close()
    compiled = ov.Core().compile_model(ov.Core().read_model(given.head), "CPU", engine.config)
    names = {port: min(port.get_names()) for port in compiled.inputs}
    raw = {names[port]: value for port in compiled.inputs for key, value in given.inputs.items() if known(port, key)}
    in_process = [np.array(value).tobytes() for value in compiled.create_infer_request().infer(raw).values()]
    assert sorted(in_process) == sorted(np.array(value).tobytes() for value in found.values())
    for key, expected in given.outputs.items():
        np.testing.assert_allclose(found[key], expected, atol=1e-5)


def known(port, name):
    return any(each.removeprefix("serving_default_").removesuffix(":0") == name for each in port.get_names())


@pytest.mark.parametrize("name", SERVED)
def test_metadata_has_the_names_and_datatypes_that_users_of_the_model_know(name):
    given = vector_model(name)
    contract = contract_of(models.read(given.files)[0])
    for specs, arrays in ((contract.inputs, given.inputs), (contract.outputs, given.outputs)):
        assert {spec.name: spec.datatype for spec in specs} == {
            key: DATATYPES[value.dtype.name] for key, value in arrays.items()
        }
        for spec in specs:
            assert spec.shape[0] == -1
            assert all(size in (-1, actual) for size, actual in zip(spec.shape, arrays[spec.name].shape, strict=True))


@pytest.mark.attack("I06")
@pytest.mark.parametrize("name", ["keras_cnn", "frozen_cnn", "tflite_cnn", "paddle_cnn"])
def test_a_model_is_read_without_a_byte_to_a_disk(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    files, before = files_of(name), written()
    models.read(files)
    assert written() == before
    assert not list(tmp_path.iterdir())


def written():
    """Bytes that this process has sent towards a disk; what goes into memory's own file systems does not count."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(line for line in lines if line.startswith("write_bytes"))


def test_a_byte_to_a_disk_would_be_counted(tmp_path):
    before = written()
    with (tmp_path / "clear").open("wb") as file:
        file.write(b"weights" * 4096)
        file.flush()
        os.fsync(file.fileno())
    assert written() != before


@pytest.mark.attack("I06")
def test_nothing_is_left_in_memory_and_nothing_is_read_from_elsewhere(tmp_path, monkeypatch):
    laid = []
    whole = memory_folder.laid_out

    def seen(files):
        laid.append(sorted(files))
        return whole(files, under=memory_folder.ROOT)

    monkeypatch.setattr("cloister.worker.formats.laid_out", seen)
    beside = {"../passwd": memoryview(b"x"), "assets/terms.txt": memoryview(b"x"), "readme.md": memoryview(b"x")}
    models.read({**files_of("saved_two"), **beside})
    assert laid == [["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]]


def test_a_saved_model_in_a_folder_of_its_own():
    inside = {f"export/1/{name}": content for name, content in files_of("saved_ids").items()}
    model, _ = models.read({**inside, "export/1/fingerprint.pb": memoryview(b"x"), "notes.txt": memoryview(b"x")})
    assert [port.get_any_name() for port in model.inputs] == ["ids"]


def test_a_format_that_needs_memory_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr("cloister.worker.formats.laid_out", lambda files: memory_folder.laid_out(files, under=tmp_path))
    monkeypatch.setattr(memory_folder, "_MEMORY", frozenset())
    with pytest.raises(NotReady) as caught:
        models.read(files_of("tflite_cnn"))
    assert caught.value.reason == "model.no_memory_folder"
    assert "mount a tmpfs" in str(caught.value)
    models.read(files_of("paddle_cnn"))  # needs none


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ({"model.keras": b"PK"}, "export it as a SavedModel"),
        ({"model.h5": b"HDF"}, "export it as a SavedModel"),
        ({"model.pt": b"PK"}, "convert it to OpenVINO IR or ONNX"),
        ({"model.json": b"{}", "model.pdiparams": b""}, "FLAGS_enable_pir_api=0"),
        ({"model.pbtxt": b"node {}"}, "export a SavedModel"),
        ({"notes.txt": b"hello"}, "no .xml, .onnx, .pb, .pdmodel, .tflite"),
        ({"a.tflite": b"", "b.onnx": b""}, "more than one model"),
    ],
)
def test_what_is_not_served_says_what_to_do_instead(files, advice):
    with pytest.raises(ModelRefused, check=because(advice)) as caught:
        models.read({name: memoryview(content) for name, content in files.items()})
    assert caught.value.reason == "model.refused"


def test_an_operation_without_a_conversion_is_named():
    unknown = networks.field(1, networks.field(1, b"n") + networks.field(2, b"StringLength") + networks.field(3, b"a"))
    raw = bytes(files_of("frozen_two")["model.pb"]) + unknown
    with pytest.raises(ModelRefused, check=because("for want of StringLength")):
        models.read({"model.pb": memoryview(raw)})
