"""A model that several people decide about, from the command line: handed over, explained, allowed, published again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino as ov
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cloister.cli.identities import new_ed25519_pem
from cloister.rpc.files import create_private
from fakes.running_mesh import RunningMesh, probe

JOINT = "joint"


def person(path: Path) -> str:
    """A key in a file; returns its public half, in hex."""
    pem = new_ed25519_pem()
    create_private(path, pem)
    key = load_pem_private_key(pem, password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key.public_key().public_bytes_raw().hex()


def explained_to(mesh: RunningMesh) -> list[dict[str, Any]]:
    """What workers would get; the command says by its exit code whether all of them would get something."""
    try:
        workers: list[dict[str, Any]] = mesh.json("policy", "explain", JOINT)["workers"]
    except AssertionError:
        workers = mesh.json("policy", "explain", JOINT, code=3)["workers"]
    return workers


@pytest.mark.attack("C08")
def test_two_of_three_decide_about_a_model(mesh: RunningMesh, tmp_path: Path) -> None:
    """Nobody serves it: what its workers would get is asked, and never given."""
    bob, carol, dave = (tmp_path / f"{name}.pem" for name in ("bob", "carol", "dave"))
    keys = [word for path in (bob, carol, dave) for word in ("--signer", person(path))]
    files = {name: tmp_path / f"{name}.json" for name in ("signers", "policy")}
    signed = {name: path.with_suffix(".signed.json") for name, path in files.items()}

    source = (tmp_path / "model.xml", tmp_path / "model.bin")
    ov.save_model(probe(), source[0], compress_to_fp16=False)

    def sealed(version: int) -> Path:
        folder = tmp_path / f"sealed-{version}"
        mesh.cli("model", "seal", *source, "--name", JOINT, "--version", str(version), "--out", folder)
        return folder

    mesh.cli("model", "publish", sealed(1))
    assert "nobody may have joint's key" in mesh.cli("policy", "explain", JOINT, code=1)

    mesh.cli("model", "signers", JOINT, "--threshold", "2", *keys, "--draft", files["signers"])
    mesh.cli("model", "sign", files["signers"], "--key", mesh.identity("owner") / "signing_key.pem")
    assert "signature.insufficient" in mesh.cli("model", "apply", signed["signers"], code=1)
    for key in (bob, carol):
        mesh.cli("model", "sign", signed["signers"], "--key", key)
    mesh.cli("model", "apply", signed["signers"])
    assert mesh.json("model", "signers", JOINT)["threshold"] == 2

    allow = ("model", "allow", JOINT, "--mrenclave", mesh.mrenclave)
    assert "your key alone does not sign" in mesh.cli(*allow, code=1)
    mesh.cli(*allow, "--draft", files["policy"])
    explained = mesh.json("policy", "explain", JOINT, "--policy", files["policy"], code=3)
    met = [{rule["rule"]: rule["met"] for rule in worker["rules"]} for worker in explained["workers"]]
    # Other tests of this mesh may have workers of their own attested, some with other code.
    assert [(rules["hardware"], rules["code"]) for rules in met].count((False, True)) >= 2
    assert not any(rules["hardware"] for rules in met)
    mesh.cli(*allow, "--allow-simulated", "--draft", files["policy"])
    for key in (carol, dave):
        mesh.cli("model", "sign", files["policy"], "--key", key)
    mesh.cli("model", "apply", signed["policy"])
    entitled = [worker["entitled"] for worker in explained_to(mesh)]
    assert entitled.count(True) >= 2
    lines = mesh.json("audit", "list", "--model", JOINT)
    assert [line["event"] for line in lines if line["event"].endswith(".set")] == ["signers.set", "policy.set"]

    second = sealed(2)
    assert "--approval" in mesh.cli("model", "publish", second, code=1)
    for key in (bob, dave):
        mesh.cli("model", "sign", second / "manifest.json", "--key", key)
    mesh.cli("model", "publish", second, "--approval", second / "manifest.signed.json")
    assert {model["version"] for model in mesh.json("model", "list") if model["name"] == JOINT} == {1, 2}
