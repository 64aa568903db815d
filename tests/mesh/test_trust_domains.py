"""A worker in a trust domain beside one in an enclave, in a mesh of real processes whose policies name it.

The enclave is a member as well, and gets no key: the model's owner has named the trust domain only.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cloister.kit.lifecycle import REFUSED
from fakes.running_mesh import BIN, MODEL, RunningMesh, another_worker, inputs, probe, until

OTHER_MRTD = "ab" * 48


@pytest.fixture(scope="module")
def td() -> dict[str, str]:
    """What a simulated worker in a trust domain measures as."""
    done = subprocess.run(
        [BIN / "cloister-simulator", "measure", "--tee", "tdx", "--json"], capture_output=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, td: dict[str, str]) -> Iterator[RunningMesh]:
    """A mesh whose verifier has collateral for both technologies, and a policy that names a build of each."""
    mesh = RunningMesh(tmp_path_factory.mktemp("both") / "mesh")
    mesh.found()
    simulator, verifier = mesh.folder / "simulator", mesh.folder / "verifier"
    files = (simulator / "collateral.json", simulator / "collateral-tdx.json")
    signed = ("--key", mesh.identity("owner") / "signing_key.pem", "--anchor-root", simulator / "root.der")
    mesh.cli("collateral", "sign", *files, *signed, "-o", verifier / "collateral.bundle")
    registers = "".join(f'{name} = "{value}"\n' for name, value in td.items() if name.startswith(("mrtd", "rtmr")))
    rows = f'[[reference_values]]\nmrenclave = "{mesh.mrenclave}"\n[[td_reference_values]]\n{registers}'
    (verifier / "policy.toml").write_text(f'policy_id = "both"\nversion = 1\n{rows}')
    settings = verifier / "settings.toml"
    text = settings.read_text().replace("../simulator/collateral.json", "collateral.bundle")
    settings.write_text(f'policy = "policy.toml"\n{text}')
    sealed = mesh.seal(probe())
    with mesh.up(workers=1):
        mesh.cli("model", "publish", sealed)
        mesh.cli("model", "allow", MODEL, "--td-measurement", td["td_measurement"], "--allow-simulated")
        yield mesh


def lines(mesh: RunningMesh, record: str, event: str) -> list[dict[str, Any]]:
    """What stands in one of the two records."""
    found: list[dict[str, Any]] = mesh.json("audit", "list", "--record", record)
    return [line for line in found if line["event"] == event]


@pytest.mark.attack("C02")
def test_it_gets_the_key_and_answers_those_whose_bundle_names_it(
    both: RunningMesh, td: dict[str, str], truth: Callable[[NDArray[np.float32]], NDArray[np.float32]], tmp_path: Path
) -> None:
    named = td["td_measurement"]
    with another_worker(both, "--tee", "tdx"):
        until(lambda: len(both.serving()) == 1, "the worker in the trust domain serves")
        (worker,) = both.serving()
        assert (worker["tee"], worker["mrenclave"], worker["td_measurement"]) == ("tdx", "", named)
        (released,) = lines(both, "releases", "key.released")
        assert (released["tee"], released["td_measurement"], released["mrtd"]) == ("tdx", named, td["mrtd"])

        def refused() -> dict[str, str]:
            return {line["mrenclave"]: line["reason"] for line in lines(both, "releases", "key.refused")}

        until(lambda: refused() == {both.mrenclave: "measurement.not_allowed"}, "the other worker asks again")

        assert "tee.other" in both.cli("evidence", "show", MODEL, code=3)
        both.cli("trust", "accept", "--td-measurement", named)
        assert named in both.cli("evidence", "show", MODEL)
        x, receipt = inputs(1), tmp_path / "answer.receipt"
        np.savez(tmp_path / "x.npz", x=x)
        kept = ("--receipt", receipt, "--output", tmp_path / "y.npz")
        assert "in trust domain" in both.cli("infer", MODEL, "--input", tmp_path / "x.npz", *kept)
        np.testing.assert_allclose(np.load(tmp_path / "y.npz")["y"], truth(x), rtol=1e-5)
        assert f"trust domain {named}" in both.cli("receipt", "verify", receipt)
        both.cli("trust", "accept", "--td-measurement", "ab" * 32)
        assert "measurement.unknown" in both.cli("receipt", "verify", receipt, code=3)


@pytest.mark.attack("C01")
@pytest.mark.attack("C09")
@pytest.mark.parametrize(
    ("options", "reason"),
    [(("--debug-enclave",), "enclave.debug"), (("--mrtd", OTHER_MRTD), "measurement.refused")],
    ids=["debug", "another firmware"],
)
def test_another_trust_domain_is_no_member(both: RunningMesh, options: tuple[str, ...], reason: str) -> None:
    with another_worker(both, "--tee", "tdx", *options) as (process, log):
        assert process.wait(30) == REFUSED
        said = log.read_text()
    assert reason in {line["reason"] for line in lines(both, "appraisals", "evidence.rejected")}
    assert reason not in said
