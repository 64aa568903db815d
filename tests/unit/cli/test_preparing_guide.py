"""The guide to preparing models is walked as it is written: its commands, in its order, on the files it speaks of."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import openvino as ov
import pytest

from cloister.cli import identities
from cloister.seal.manifest import verify
from fakes import digits, networks
from fakes.founded import found

Run = Callable[..., tuple[int, str, str]]
GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "preparing-models.md").read_text()


def commands() -> list[str]:
    """Every line of the guide's blocks of commands."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    return [line for language, block in blocks if not language for line in block.splitlines()]


def has_its_files(folder: Path) -> None:
    """What the guide's reader has: code, an ONNX file, and a trained model with data."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    (folder / "network.py").write_text(code)
    (folder / "network.onnx").write_bytes(networks.onnx())
    digits.trained().save(folder / "digits")


def test_the_guide_works_as_it_is_written(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = found(tmp_path / "mesh", monkeypatch)
    monkeypatch.chdir(tmp_path)
    has_its_files(tmp_path)
    typed = commands()
    assert [shlex.split(line)[2] for line in typed] == ["convert", "convert", "quantize", "seal", "seal"]
    for line in typed:
        if "network.py" in line and find_spec("torch") is None:
            (tmp_path / "photos").mkdir()
            ov.save_model(networks.pictures(224), tmp_path / "photos" / "model.xml", compress_to_fp16=False)
            continue
        code, said, err = run(*shlex.split(line)[1:])
        assert code == 0, f"{line}\n{said}{err}"
    signed = [(tmp_path / "sealed" / "photos" / f"manifest.{kind}").read_bytes() for kind in ("json", "signature")]
    photos = verify(*signed, bytes.fromhex(identities.owner_key(mesh.identity("owner"))))
    ((name, words),) = photos.preprocessing
    assert name == "image"
    (quoted,) = re.findall(r"in words: `([^`]*); \.\.\.`", " ".join(GUIDE.split()))
    assert words.startswith(quoted)
