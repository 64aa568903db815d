"""One mesh folder for all tests that only read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cloister.cli import app
from cloister.cli.mesh_folder import Mesh
from fakes.founded import found


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """A mesh for SGX."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return found(tmp_path_factory.mktemp("founded") / "mesh", monkeypatch)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `cloister` as its entry point does: exit code, stdout, stderr."""

    def command(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cloister", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command
