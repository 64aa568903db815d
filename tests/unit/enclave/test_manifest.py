"""Manifests as they are rendered: what an auditor may rely on, in each kind and set."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cloister.enclave.configuration import Configuration, take_configuration
from cloister.enclave.kinds import GATEWAY, KINDS, REDIS, VERIFIER, WORKER, EnclaveSet, Kind
from cloister.enclave.manifest import Sizing, check_set, render
from cloister.errors import InvalidRequest, NotReady
from cloister.kit.environment import TLS_ENVIRONMENT
from fakes.enclave_folder import write_programs, write_settings

KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
SET = pytest.mark.parametrize("enclave_set", EnclaveSet)
UNUSED = {"otlp_certificate"}  # an enclave sends no spans
HARDENED, DEBUG, SIMULATED = EnclaveSet.HARDENED, EnclaveSet.DEBUG, EnclaveSet.SIMULATED


def configured(kind: Kind, folder: Path) -> tuple[Path, Configuration]:
    into = folder / "enclave"
    configuration = take_configuration(kind, write_settings(folder / "service", kind), into)
    write_programs(into)
    return into, configuration


def rendered(kind: Kind, enclave_set: EnclaveSet, folder: Path, **how: Any) -> dict[str, Any]:
    into, configuration = configured(kind, folder)
    return tomllib.loads(render(kind, enclave_set, into, configuration, **how).read_text())


@KIND
@SET
def test_every_file_that_can_be_read_is_measured_by_itself_or_the_hosts(
    kind: Kind, enclave_set: EnclaveSet, tmp_path: Path
) -> None:
    manifest = rendered(kind, enclave_set, tmp_path)
    into = tmp_path / "enclave"
    here = {
        f"file:{path.relative_to(into)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("root", "gramine", "mesh")
        for path in (into / folder).rglob("*")
        if path.is_file()
    }
    assert {each["uri"]: each["sha256"] for each in manifest["sgx"]["trusted_files"]} == here
    simulated = ["file:host/attestation"] if enclave_set is SIMULATED and kind.quotes else []
    assert (
        manifest["sgx"]["allowed_files"]
        == [f"file:host/{name}" for name in sorted(set(kind.host) - UNUSED)] + simulated
    )
    assert manifest["loader"]["entrypoint"]["sha256"] == here["file:gramine/libsysdb.so"]


@KIND
@SET
def test_nothing_is_mounted_but_the_programs_and_the_mesh_and_what_the_host_may_keep(
    kind: Kind, enclave_set: EnclaveSet, tmp_path: Path
) -> None:
    mounts = rendered(kind, enclave_set, tmp_path)["fs"]["mounts"]
    fixed = ["/lib", "/etc", "/cloister/root", "/cloister/mesh", "/tmp", "/dev/shm"]
    host = [f"/cloister/host/{name}" for name in set(kind.host) - UNUSED]
    sealed, state = ["/cloister/sealed"] * bool(kind.sealed), ["/cloister/state"] * bool(kind.state)
    simulated = ["/dev/attestation"] if enclave_set is SIMULATED and kind.quotes else []
    assert sorted(mount["path"] for mount in mounts) == sorted(fixed + host + sealed + state + simulated)
    keys = {mount["path"]: mount["key_name"] for mount in mounts if mount.get("type") == "encrypted"}
    sealing = "simulated" if enclave_set is SIMULATED else "_sgx_mrsigner"
    own = "state" if kind.module and not simulated else sealing
    assert keys == dict.fromkeys(sealed, sealing) | dict.fromkeys(state, own)


@KIND
@SET
def test_a_manifest_says_its_set_in_label_product_and_debug(
    kind: Kind, enclave_set: EnclaveSet, tmp_path: Path
) -> None:
    manifest = rendered(kind, enclave_set, tmp_path)
    assert manifest["loader"]["env"]["CLOISTER_ENCLAVE"] == f"{kind.name} {enclave_set}"
    assert manifest["sgx"]["isvprodid"] == kind.product_in(enclave_set)
    assert manifest["sgx"]["debug"] is (enclave_set is DEBUG)
    for other in set(EnclaveSet) - {enclave_set}:
        with pytest.raises(InvalidRequest):
            check_set(manifest, kind, other)


@KIND
def test_a_hardened_manifest_has_no_insecure_option(kind: Kind, tmp_path: Path) -> None:
    into, configuration = configured(kind, tmp_path)
    values = [
        line for line in render(kind, HARDENED, into, configuration).read_text().splitlines() if line[:1] not in "#"
    ]
    assert not [line for line in values if "insecure" in line]
    with pytest.raises(InvalidRequest, match="insecure__allow_eventfd is not for the hardened set"):
        render(kind, HARDENED, into, configuration, eventfd_reason="it is faster")


def test_eventfd_is_the_hosts_only_with_its_reason_beside_it(tmp_path: Path) -> None:
    into, configuration = configured(WORKER, tmp_path)
    text = render(WORKER, SIMULATED, into, configuration, eventfd_reason="to measure\nwhat it costs").read_text()
    assert "# INSECURE, since: to measure what it costs\n" in text
    assert tomllib.loads(text)["sys"]["insecure__allow_eventfd"] is True


@pytest.mark.attack("C12")
@pytest.mark.parametrize("enclave_set", [HARDENED, DEBUG])
def test_the_simulators_program_is_refused_outside_the_simulated_set(enclave_set: EnclaveSet, tmp_path: Path) -> None:
    """The linter says so too (M50), and of any manifest."""
    manifest = rendered(VERIFIER, enclave_set, tmp_path)
    check_set(manifest, VERIFIER, enclave_set)
    argv = manifest["loader"]["argv"]
    argv[argv.index(VERIFIER.module)] = VERIFIER.simulated_module
    with pytest.raises(InvalidRequest, match="the simulator is run in the simulated set alone") as refused:
        check_set(manifest, VERIFIER, enclave_set)
    assert refused.value.reason == "manifest.refused"


@pytest.mark.attack("C12")
@pytest.mark.parametrize("path", ["/dev/attestation", "/dev/attestation/quote", "/proc", "/sys/devices"])
@pytest.mark.parametrize("enclave_set", [HARDENED, DEBUG])
def test_a_mount_over_what_gramine_makes_is_refused_outside_the_simulated_set(
    path: str, enclave_set: EnclaveSet, tmp_path: Path
) -> None:
    manifest = rendered(WORKER, enclave_set, tmp_path)
    check_set(manifest, WORKER, enclave_set)
    manifest["fs"]["mounts"].append({"path": path, "uri": "file:host/attestation"})
    with pytest.raises(InvalidRequest, match="for the simulated set alone") as refused:
        check_set(manifest, WORKER, enclave_set)
    assert refused.value.reason == "manifest.refused"


@pytest.mark.attack("C12")
@pytest.mark.parametrize(
    ("kind", "line"), [(VERIFIER, 'anchor_root = "ca.pem"'), (GATEWAY, "simulated_workers = true")]
)
@pytest.mark.parametrize("enclave_set", [HARDENED, DEBUG])
def test_settings_that_believe_what_is_simulated_are_in_no_genuine_enclave(
    kind: Kind, line: str, enclave_set: EnclaveSet, tmp_path: Path
) -> None:
    file = write_settings(tmp_path / "service", kind)
    write_programs(tmp_path / "enclave")
    render(kind, enclave_set, tmp_path / "enclave", take_configuration(kind, file, tmp_path / "enclave"))
    file.write_text(f"{line}\n{file.read_text()}")
    configuration = take_configuration(kind, file, tmp_path / "enclave")
    render(kind, SIMULATED, tmp_path / "enclave", configuration)
    with pytest.raises(InvalidRequest, match=f"{line.split()[0]} has simulated evidence believed") as refused:
        render(kind, enclave_set, tmp_path / "enclave", configuration)
    assert refused.value.reason == "manifest.refused"


@KIND
def test_arguments_and_environment_are_fixed(kind: Kind, tmp_path: Path) -> None:
    loader = rendered(kind, HARDENED, tmp_path)["loader"]
    if kind is REDIS:
        assert loader["argv"] == ["/cloister/root/bin/redis-server", "/cloister/mesh/redis.conf"]
    else:
        python = ["/cloister/root/bin/python3.11", "-I", "-S", "-B", "-m", kind.module]
        assert loader["argv"] == [*python, "--settings", "/cloister/mesh/settings.toml"]
        assert {name: loader["env"][name] for name in TLS_ENVIRONMENT} == TLS_ENVIRONMENT
    if (
        kind is VERIFIER
    ):  # it alone is another program in a simulated mesh, since ours believes no other root than Intel's
        simulated = rendered(kind, SIMULATED, tmp_path / "simulated")["loader"]["argv"]
        assert simulated[5] == "cloister_simulator.enclave_verifier"
    let_in = [name for name, value in loader["env"].items() if not isinstance(value, str)]
    assert let_in == list(kind.host_chosen)


@KIND
def test_the_same_folder_gives_the_same_bytes_elsewhere(kind: Kind, tmp_path: Path) -> None:
    texts = set()
    for each in ("here", "there/deeper"):
        into, configuration = configured(kind, tmp_path / each)
        texts.add(render(kind, HARDENED, into, configuration).read_bytes())
    assert len(texts) == 1


def test_sizes_are_the_templates_unless_told_otherwise(tmp_path: Path) -> None:
    usual, larger = (
        rendered(WORKER, HARDENED, tmp_path / "a"),
        rendered(WORKER, HARDENED, tmp_path / "b", sizing=Sizing(memory="16G", threads=256, edmm=True), isvsvn=7),
    )
    assert (usual["sgx"]["enclave_size"], usual["sgx"]["max_threads"], usual["sgx"]["isvsvn"]) == ("4G", 128, 1)
    assert (larger["sgx"]["enclave_size"], larger["sgx"]["max_threads"], larger["sgx"]["isvsvn"]) == ("16G", 256, 7)
    assert larger["sgx"]["edmm_enable"] is True


@pytest.mark.parametrize("memory", ["3G", "0", "lots", "1.5G", "4g", "-4G"])
def test_memory_that_no_cpu_takes_is_refused_before_anybody_signs(memory: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="power of two") as refused:
        rendered(WORKER, HARDENED, tmp_path, sizing=Sizing(memory=memory, edmm=True))
    assert refused.value.reason == "manifest.refused"


@SET
def test_what_brings_secrets_in_sees_them_by_digest_and_nothing_of_the_hosts(
    enclave_set: EnclaveSet, tmp_path: Path
) -> None:
    into, configuration = configured(VERIFIER, tmp_path)
    path = render(VERIFIER, enclave_set, into, configuration, importing=True)
    manifest = tomllib.loads(path.read_text())
    uris = {each["uri"] for each in manifest["sgx"]["trusted_files"]}
    assert path.name == "verifier-import.manifest"
    assert manifest["loader"]["argv"][5:] == ["cloister.kit.state_import", "/cloister/import", "/cloister/sealed"]
    assert {"file:import/ca_private_key", "file:import/signing_keys/first.key", "file:import/state.key"} <= uris
    assert "/cloister/state" not in [mount["path"] for mount in manifest["fs"]["mounts"]]
    assert manifest["sgx"]["allowed_files"] == []
    assert manifest["sgx"]["isvprodid"] == VERIFIER.product_in(enclave_set)  # or it would seal under another key
    with pytest.raises(InvalidRequest, match="no secrets"):
        render(WORKER, enclave_set, *configured(WORKER, tmp_path / "worker"), importing=True)


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    into, configuration = configured(WORKER, tmp_path)
    (into / "root/lib/dangling").symlink_to("nowhere")
    with pytest.raises(InvalidRequest, match="a link"):
        render(WORKER, HARDENED, into, configuration)
    (into / "root/lib/dangling").unlink()
    (into / "gramine/libsysdb.so").unlink()
    with pytest.raises(NotReady, match=r"libsysdb.so is missing"):
        render(WORKER, HARDENED, into, configuration)


def test_names_that_toml_would_take_for_its_own_are_written_as_they_are(tmp_path: Path) -> None:
    into, configuration = configured(WORKER, tmp_path)
    name = 'root/lib/a "b"\\ {c} é.py'
    (into / name).write_text("x")
    manifest = tomllib.loads(render(WORKER, HARDENED, into, configuration).read_text())
    assert f"file:{name}" in [each["uri"] for each in manifest["sgx"]["trusted_files"]]
