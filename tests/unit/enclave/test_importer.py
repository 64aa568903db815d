"""What is signed as an importer is one: its signature opens a service's state, and no measurement tells what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloister.enclave.importer import check_importer, check_manifest, sign_all
from cloister.enclave.kinds import GATEWAY, PROVISIONER, REDIS, WORKER, Kind
from cloister.enclave.signers import KeySigner
from cloister.enclave.signing import unsigned_file
from cloister.errors import CloisterError, InvalidRequest
from fakes.built_enclave import Built

PYTHON = ["/cloister/root/bin/python3.11", "-I", "-S", "-B", "-m"]
SEALED = {"path": "/cloister/sealed", "uri": "file:host/sealed", "type": "encrypted"}
STATE = {"path": "/cloister/state", "uri": "file:host/state", "type": "encrypted"}
HOSTS = {"path": "/cloister/host/tls.certificate", "uri": "file:host/tls.certificate"}
TRUSTED = {"uri": "file:root/bin/python3.11", "sha256": "00"}


def service() -> dict[str, Any]:
    return {
        "loader": {
            "argv": [*PYTHON, "cloister.provisioner", "--settings", "/cloister/mesh/settings.toml"],
            "env": {"HOME": "/tmp", "CLOISTER_PROVISIONER_LISTEN": {"passthrough": True}},
        },
        "fs": {"mounts": [HOSTS, SEALED, STATE]},
        "sgx": {"allowed_files": ["file:host/tls.certificate"], "trusted_files": [TRUSTED], "debug": False},
    }


def importer() -> dict[str, Any]:
    return {
        "loader": {
            "argv": [*PYTHON, "cloister.kit.state_import", "/cloister/import", "/cloister/sealed"],
            "env": {"HOME": "/tmp"},
        },
        "fs": {"mounts": [{"path": "/cloister/import", "uri": "file:import"}, SEALED]},
        "sgx": {
            "allowed_files": [],
            "trusted_files": [TRUSTED, {"uri": "file:import/vault.file.key_file", "sha256": "11"}],
            "debug": False,
        },
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made["loader"]["argv"].__setitem__(5, "cloister.kit.another"),
        lambda made: made["loader"]["argv"].__setitem__(7, "/cloister/host"),
        lambda made: made["loader"]["env"].update(LD_PRELOAD="/cloister/host/x"),
        lambda made: made["fs"]["mounts"].append({"path": "/cloister/out", "uri": "file:host/out"}),
        lambda made: made["fs"]["mounts"].append({"path": "/cloister/import/x", "uri": "file:host/x"}),
        lambda made: made["fs"]["mounts"][0].update(uri="file:host/import"),
        lambda made: made["sgx"]["allowed_files"].append("file:host/out"),
        lambda made: made["sgx"]["trusted_files"].append({"uri": "file:root/lib/more.so", "sha256": "22"}),
        lambda made: made["sgx"]["trusted_files"].append({"uri": "file:import/redis.shared_key", "sha256": "22"}),
        lambda made: made["sgx"].update(file_check_policy="allow_all_but_log"),
        lambda made: made.update(sys={"insecure__allow_eventfd": True}),
    ],
    ids=[
        *("module", "where to", "variable", "mount", "mount below", "mount of the host's", "allowed file", "code"),
        *("another's secret", "option", "section"),
    ],
)
def test_an_importer_differs_from_its_service_in_what_it_must_alone(change: Callable[[dict[str, Any]], object]) -> None:
    made = importer()
    check_manifest(made, service(), PROVISIONER)
    change(made)
    with pytest.raises(InvalidRequest) as refused:
        check_manifest(made, service(), PROVISIONER)
    assert refused.value.reason == "importer.mismatched"


@pytest.mark.parametrize("kind", [WORKER, REDIS])
def test_nothing_is_signed_as_the_importer_of_what_has_no_secrets(
    tmp_path: Path, signer: KeySigner, kind: Kind
) -> None:
    """Whoever hands a folder to a signer could otherwise have anything signed beside it."""
    Built(kind=kind).into(tmp_path)
    unsigned_file(tmp_path, f"{kind.name}-import").write_bytes(Built(kind=kind).sigstruct(bytes([1]) * 32).encode())
    assert refusal(tmp_path, signer) == "importer.mismatched"


def test_nothing_is_signed_as_an_importer_that_cannot_be_seen_to_be_one(tmp_path: Path, signer: KeySigner) -> None:
    Built(kind=GATEWAY).into(tmp_path)
    unsigned_file(tmp_path, "gateway-import").write_bytes(Built(kind=GATEWAY).sigstruct(bytes([1]) * 32).encode())
    assert refusal(tmp_path, signer) == "enclave.incomplete"
    (tmp_path / "gateway-import.manifest").write_bytes((tmp_path / "gateway.manifest").read_bytes())
    assert refusal(tmp_path, signer) == "gramine.missing"
    with pytest.raises(CloisterError):
        check_importer(tmp_path)
    unsigned_file(tmp_path, "gateway-import").unlink()
    assert sign_all(tmp_path, signer).mrsigner is not None


def refusal(folder: Path, signer: KeySigner) -> str:
    with pytest.raises(CloisterError) as refused:
        sign_all(folder, signer)
    assert not any(path.name.endswith(".sig") and "unsigned" not in path.name for path in folder.iterdir())
    return refused.value.reason
