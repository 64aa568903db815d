"""The house itself: locks, the blind gateway, and no simulator in the product."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(p for p in ROOT.glob("**/*.lock") if not any(part.startswith(".venv") for part in p.parts))
LOCKS.remove(ROOT / "enclave" / "measured" / "tcb.lock")  # test_tcb.py is about it


def loaded_by(module: str) -> set[str]:
    """What an interpreter has imported after importing `module`."""
    script = f"import {module}, sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("lock", LOCKS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_lock_pins_every_line_with_hashes_and_names_no_registry(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"https?://|index-url|find-links|@ ", text)
    for requirement in re.split(r"\n(?=[a-z])", text):
        if re.match(r"[a-z]", requirement):
            assert "==" in requirement.splitlines()[0]
            assert "--hash=sha256:" in requirement


def test_the_gateway_process_cannot_open_what_it_carries() -> None:
    loaded = loaded_by("cloister.gateway.app")
    for blind_to in ("cloister.seal", "cloister.oip", "cloister.appraisal", "numpy"):
        assert not any(name == blind_to or name.startswith(f"{blind_to}.") for name in loaded), blind_to


def test_a_gateway_that_sends_no_spans_loads_nothing_for_them() -> None:
    assert not [name for name in loaded_by("cloister.gateway.app") if name.startswith("opentelemetry")]


def test_the_worker_process_stays_small() -> None:
    loaded = loaded_by("cloister.worker.app")
    for kept_out in (
        "cloister.appraisal",
        "cloister.client",
        "prometheus_client",
        "opentelemetry",
        "typer",
        "dcap_qvl",
    ):
        assert kept_out not in loaded


@pytest.mark.attack("C13")
@pytest.mark.parametrize("service", ["gateway", "provisioner", "verifier", "worker", "client", "cli"])
def test_no_part_of_the_product_loads_the_simulator(service: str) -> None:
    module = f"cloister.{service}" if service in {"client", "cli"} else f"cloister.{service}.app"
    assert "cloister_simulator" not in loaded_by(module)


def test_a_simulated_verifier_in_its_enclave_has_nothing_of_its_platform() -> None:
    """Whoever could read the enclave would find no key to quote by; and its image stays small."""
    loaded = loaded_by("cloister_simulator.enclave_verifier, cloister.verifier.app")
    of_simulator = {name for name in loaded if name.startswith("cloister_simulator.")}
    assert of_simulator == {"cloister_simulator.enclave_verifier"}
    assert "typer" not in loaded


EXTRAS = ("grpc_health", "hypercorn", "nncf", "openvino", "prometheus_client", "redis", "sklearn", "starlette")
EXTRAS += ("opentelemetry", "pyvoy", "structlog", "torch", "uvloop")


def test_the_command_runs_with_what_every_installation_has() -> None:
    """A client's, or a model owner's, which have one extra or none."""
    script = f"import sys; sys.modules |= dict.fromkeys({EXTRAS}); import cloister.cli.app"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["conversion", "preprocessing", "samples", "quantization"])
def test_models_are_prepared_with_nothing_of_the_services(module: str) -> None:
    absent = [name for name in EXTRAS if name != "openvino"]
    script = (
        f"import sys; sys.modules |= dict.fromkeys({absent}); import cloister.prepare.{module}, cloister.worker.models"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_cloister_loads_none_of_its_services() -> None:
    assert not [name for name in loaded_by("cloister") if name.startswith("cloister.")]
