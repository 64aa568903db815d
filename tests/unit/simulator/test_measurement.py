"""Changed worker code is another enclave; anything else is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import grimp
import pytest

import cloister
from cloister.errors import NotReady
from cloister_simulator.measurement import MEASURED, MEASURED_VERIFIER, worker_measurement

PACKAGE = Path(cloister.__file__).parent


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small `cloister` with every measured part and some that are not."""
    root = tmp_path / "cloister"
    for name in (*MEASURED, "gateway", "appraisal"):
        if name.endswith(".py"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"# {name}\n")
        else:
            (root / name / "inner").mkdir(parents=True)
            (root / name / "__init__.py").write_text(f"# {name}\n")
            (root / name / "inner" / "deep.py").write_text("x = 1\n")
    return root


def test_the_installed_worker_is_measured_where_it_is_installed() -> None:
    try:
        expected = worker_measurement(PACKAGE)
    except NotReady as missing:
        pytest.fail(str(missing))
    assert worker_measurement() == expected
    assert len(expected.mrenclave) == len(expected.mrsigner) == 32


@pytest.mark.parametrize(("service", "measured"), [("worker", MEASURED), ("verifier", MEASURED_VERIFIER)])
def test_everything_a_service_reaches_is_measured(service: str, measured: tuple[str, ...]) -> None:
    graph = grimp.build_graph("cloister", cache_dir=None)
    reached = graph.find_upstream_modules(f"cloister.{service}", as_package=True)
    rooms = {module.split(".")[1] for module in reached if module != "cloister"}
    assert rooms <= {name.removesuffix(".py") for name in measured}


def test_the_signer_does_not_depend_on_the_code(package: Path) -> None:
    assert worker_measurement(package).mrsigner == worker_measurement().mrsigner


def test_the_same_code_elsewhere_measures_the_same(package: Path, tmp_path: Path) -> None:
    shutil.copytree(package, tmp_path / "elsewhere")
    assert worker_measurement(package) == worker_measurement(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "worker" / "inner" / "deep.py").write_text("x = 2\n"),
        lambda root: (root / "worker" / "extra.py").write_text(""),
        lambda root: (root / "seal" / "inner" / "deep.py").unlink(),
        lambda root: (root / "seal" / "inner" / "deep.py").rename(root / "seal" / "inner" / "deeper.py"),
        lambda root: (root / "ear" / "token.py").write_text("# changed\n"),
        lambda root: (root / "__init__.py").write_text("# changed\n"),
    ],
    ids=["a change", "a new file", "a file gone", "a file renamed", "ear", "the package itself"],
)
def test_changed_worker_code_is_another_enclave(package: Path, change: Callable[[Path], object]) -> None:
    before = worker_measurement(package)
    change(package)
    assert worker_measurement(package).mrenclave != before.mrenclave


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "gateway" / "__init__.py").write_text("# changed\n"),
        lambda root: (root / "appraisal" / "inner" / "deep.py").write_text("# changed\n"),
        lambda root: (root / "worker" / "notes.txt").write_text("not code\n"),
        lambda root: (root / "worker" / "inner" / "deep.py").touch(),
    ],
    ids=["the gateway", "appraisal", "no code", "a time stamp"],
)
def test_what_a_worker_does_not_run_does_not_count(package: Path, change: Callable[[Path], object]) -> None:
    before = worker_measurement(package)
    change(package)
    assert worker_measurement(package) == before


def test_a_worker_with_a_part_missing_is_not_measured(package: Path) -> None:
    shutil.rmtree(package / "evidence")
    with pytest.raises(NotReady, match="evidence"):
        worker_measurement(package)
