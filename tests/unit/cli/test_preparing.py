"""The model owner's commands: convert, quantize, and seal with what is compiled in; up to what a worker makes of it."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from cloister.cli import identities, sealed_folder
from cloister.cli.mesh_folder import Mesh
from cloister.cli.preprocessing_options import Precision
from cloister.seal.manifest import PRECISIONS
from cloister.worker.batches import Item
from cloister.worker.engine import OpenVinoEngine
from cloister.worker.memory import MemoryBudget
from cloister.worker.models import load
from cloister.worker.tuning import Tunings
from fakes import clocks, digits, networks

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model and what to calibrate it on."""
    made = tmp_path_factory.mktemp("owner")
    digits.trained().save(made)
    return made


def sealed(run: Run, mesh: Mesh, out: Path, *words: str | Path) -> str:
    code, said, err = run("model", "seal", *words, "--name", "digits", "--out", out, "--mesh", mesh.folder)
    assert code == 0, err
    return said


@contextmanager
def as_a_worker_loads_it(folder: Path, mesh: Mesh, tmp_path: Path) -> Iterator[tuple[Any, OpenVinoEngine]]:
    """The manifest, and the engine that a worker makes of the sealed file."""
    _, found, key = sealed_folder.read(folder, identities.signing_key(mesh.identity("owner")))
    with sealed_folder.placing(folder, tmp_path / "models", found):
        pass
    tunings, room = Tunings(clocks.quick()), MemoryBudget(0).room("digits@1")
    yield found, load(tmp_path / "models", found, key, threads=0, parallel=2, most_rows=8, tunings=tunings, room=room)


def test_seal_compiles_preprocessing_in_and_signs_what_it_did(
    run: Run, mesh: Mesh, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    out = tmp_path / "sealed"
    said = sealed(run, mesh, out, folder / "model.xml", folder / "model.bin", "--input-u8", "pixels", "--scale", "16")
    words = "from u8 [?,64]; to f32; scale 16"
    assert words in said
    raw = (digits.trained().pixels * 16).astype(np.uint8)
    with as_a_worker_loads_it(out, mesh, tmp_path) as (found, engine):
        assert found.preprocessing == (("pixels", words),)
        assert (found.precision, engine.contract.inputs[0].datatype) == ("f32", "UINT8")
        (answer,) = engine.infer_now([Item({"pixels": raw[:8]}, ("scores",))])
        assert not isinstance(answer, Exception)
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    expected = ov.Core().compile_model(digits.trained().model, "CPU", config)(raw[:8].astype(np.float32) / 16)[0]
    np.testing.assert_allclose(answer["scores"], expected, atol=1e-6)
    assert list((tmp_path / "tmp").iterdir()) == [], "nothing of the model stays in clear"
    assert stat.S_IMODE(out.stat().st_mode) == 0o700


def test_every_precision_that_a_manifest_knows_can_be_chosen() -> None:
    assert {each.value for each in Precision} == set(PRECISIONS)


def test_seal_signs_the_precision(run: Run, mesh: Mesh, folder: Path, tmp_path: Path) -> None:
    files = (folder / "model.xml", folder / "model.bin")
    said = sealed(run, mesh, tmp_path / "half", *files, "--precision", "bf16")
    assert "bf16" in said
    assert json.loads((tmp_path / "half" / "manifest.json").read_bytes())["precision"] == "bf16"
    sealed(run, mesh, tmp_path / "full", *files)
    assert "precision" not in json.loads((tmp_path / "full" / "manifest.json").read_bytes())
    code, _, err = run("model", "seal", *files, "--name", "digits", "--out", tmp_path / "no", "--precision", "int8")
    assert code == 2
    assert "bf16" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--input-u8", "image"), "no input 'image': it takes pixels (preprocessing.malformed)"),
        (("--resize", "?x?"), "say which axes 'pixels' has"),
        (("--scale", "0"), "divides by nothing"),
    ],
)
def test_seal_says_what_preprocessing_does_not_fit_and_leaves_nothing(
    run: Run, mesh: Mesh, folder: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    out = tmp_path / "sealed"
    named = ("--name", "digits", "--out", out, "--mesh", mesh.folder)
    code, _, err = run("model", "seal", folder / "model.xml", folder / "model.bin", *named, *words)
    assert code == 1
    assert says in err
    assert not out.exists()


def test_a_model_that_workers_would_not_serve_is_not_written(run: Run, tmp_path: Path) -> None:
    ov.save_model(networks.bomb(), tmp_path / "bomb.xml")
    code, _, err = run("model", "convert", tmp_path / "bomb.xml", "--out", tmp_path / "new" / "bomb.xml")
    assert code == 1
    assert "workers would not serve this" in err
    assert "model.shape_unbounded" in err
    assert list((tmp_path / "new").iterdir()) == []


def test_convert_writes_openvinos_format_and_says_what_it_takes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(networks.onnx())
    out = tmp_path / "new" / "model.xml"
    code, said, err = run("model", "convert", tmp_path / "network.onnx", "--output", "scores", "--out", out)
    assert code == 0, err
    assert "x FP32 ?x3" in said
    assert "scores FP32 ?x2" in said
    assert "was not held against the original" in err
    assert {path.name for path in out.parent.iterdir()} == {"model.xml", "model.bin"}
    code, _, err = run("model", "convert", tmp_path / "network.onnx", "--out", out)
    assert code == 2
    assert "exists" in err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nothing.onnx",), 2, "nothing.onnx cannot be used: there is no such file"),
        (("network.py",), 1, "network.py:make"),
        (("network.onnx", "--input", "x=3,4"), 1, "is not NAME=SHAPE[:DATATYPE]"),
        (("network.onnx", "--input", "z=?x3"), 1, "has no input 'z'; it has x (shape.other)"),
        (("network.onnx", "--out", "model.bin"), 2, "let it end with .xml"),
    ],
)
def test_convert_says_what_is_wrong(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("network.onnx").write_bytes(networks.onnx())
    out = () if "--out" in words else ("--out", "model.xml")
    ended, _, err = run("model", "convert", *words, *out)
    assert ended == code
    assert says in err
    assert "Traceback" not in err


def test_quantize_writes_the_model_and_the_report(run: Run, folder: Path, tmp_path: Path) -> None:
    calibration = ("--calibration", folder / "calibration.npz", "--labels", "labels")
    out, report = tmp_path / "int8" / "model.xml", tmp_path / "report.json"
    code, said, err = run("model", "quantize", folder / "model.xml", *calibration, "--out", out, "--report", report)
    assert code == 0, err
    assert "of classes" in said
    found = json.loads(report.read_text())
    assert found["written"]
    assert found["share"] >= found["min_agreement"] == 0.98
    assert found["outputs"]["scores"]["accuracy"][1] > 0.9
    assert found["size_bytes"][1] == sum(path.stat().st_size for path in out.parent.iterdir())


def test_quantize_refuses_below_the_threshold_unless_told(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8" / "model.xml"
    words = ("model", "quantize", folder / "noise.xml", "--calibration", folder / "noise.npy", "--out", out)
    words += ("--numbers", "y")
    ov.save_model(chaotic(), folder / "noise.xml", compress_to_fp16=False)
    np.save(folder / "noise.npy", np.random.default_rng(3).uniform(0, 1000, (80, 8)).astype(np.float32))
    code, said, err = run(*words)
    assert code == 1
    assert "of numbers" in said, "what was found is shown all the same"
    assert "agreement.insufficient" in err
    assert not out.exists()
    code, said, err = run(*words, "--anyway", "--json")
    assert code == 0, err
    assert json.loads(said)["share"] < 0.98
    assert out.exists()


def chaotic() -> ov.Model:
    """`x` [n, 8] in; `y` [n, 8] out, waves so short that a 256th of the range is many of them."""
    ops = ov.opset13
    x = ops.parameter([-1, 8], np.float32, name="x")
    x.output(0).set_names({"x"})
    product = ops.matmul(x, ops.constant(np.eye(8, dtype=np.float32)), transpose_a=False, transpose_b=False)
    y = ops.sin(product)
    y.output(0).set_names({"y"})
    return ov.Model([ops.result(y)], [x], "chaotic")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--calibration", "nothing.npz"), 2, "nothing.npz cannot be used"),
        (("--calibration", "other.npz"), 1, "has 'image', and the model takes 'pixels' (calibration.unfit)"),
        (("--calibration", "calibration.npz"), 1, "has 'labels', 'pixels', and the model takes 'pixels'"),
        (("--calibration", "calibration.npz", "--labels", "truth"), 1, "no array 'truth' of labels"),
        (("--calibration", "calibration.npz", "--min-agreement", "2"), 2, "min-agreement"),
        (("--calibration", "calibration.npz", "--report", "no/such/report.json"), 2, "there is no folder"),
    ],
)
def test_quantize_says_what_is_wrong(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, says: str
) -> None:
    monkeypatch.chdir(folder)
    trained = digits.trained()
    np.savez("calibration.npz", labels=trained.labels, pixels=trained.pixels)
    np.savez("other.npz", image=trained.pixels)
    ended, _, err = run("model", "quantize", "model.xml", "--out", "int8/model.xml", *words)
    assert ended == code
    assert says in " ".join(err.split())
    assert not Path("int8").exists()


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [
        ("nncf", ("quantize", "model.xml", "--calibration", "calibration.npz", "--labels", "labels"), "quantize"),
        ("torch", ("convert", "network.py:make", "--input", "x=?x3"), "convert"),
    ],
)
def test_a_missing_extra_is_named(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, words: tuple[str, ...], extra: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]  # as if it were not installed
    code, _, err = run("model", *words, "--out", "missing/model.xml")
    assert code == 1
    assert f"pip install 'cloister[{extra}]'" in err


def test_an_owner_is_told_which_part_of_a_model_workers_would_not_serve(
    run: Run, mesh: Mesh, folder: Path, tmp_path: Path
) -> None:
    """Workers would not say: their log is their host's."""
    code, said, _ = run("model", "check", folder / "model.xml", folder / "model.bin")
    assert (code, "pixels FP32 ?x64" in said) == (0, True)
    odd = tmp_path / "odd.onnx"
    odd.write_bytes(networks.onnx().replace(b"MatMul", b"MyOwn1"))
    code, _, err = run("model", "check", odd)
    assert (code, "MyOwn1" in err, "model.refused" in err) == (1, True, True)
    named = ("--name", "odd", "--out", tmp_path / "sealed", "--mesh", mesh.folder)
    code, _, err = run("model", "seal", odd, *named)
    assert (code, "MyOwn1" in err, (tmp_path / "sealed").exists()) == (1, True, False)
    code, _, _ = run("model", "seal", odd, *named, "--unchecked")
    assert (code, (tmp_path / "sealed" / "model.sealed").exists()) == (0, True)
