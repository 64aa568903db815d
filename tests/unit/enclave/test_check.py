"""A folder held against its own measurement: what was changed after it was built is found, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cloister.enclave.check import check_folder, check_trusted
from cloister.enclave.kinds import EnclaveSet
from cloister.enclave.measurement import Measurement, measure_files
from cloister.enclave.signers import KeySigner
from cloister.enclave.signing import sign
from cloister.errors import CloisterError, InvalidRequest
from fakes.built_enclave import Built


@pytest.fixture(params=EnclaveSet)
def folder(tmp_path: Path, request: pytest.FixtureRequest, signer: KeySigner) -> Path:
    Built(enclave_set=request.param, debug_key=signer).into(tmp_path)
    return tmp_path


def test_what_was_built_is_as_it_was_measured(folder: Path) -> None:
    found = check_folder(folder)
    assert (found.changed, found.measured_again) == ((), False)


def test_a_signed_one_is_too(tmp_path: Path, signer: KeySigner) -> None:
    Built().into(tmp_path)
    sign(tmp_path, signer)
    assert check_folder(tmp_path).measured.mrsigner is not None


@pytest.mark.parametrize("path", ["root/lib/python3.11/os.py", "gramine/libc.so.6", "mesh/settings.toml"])
def test_a_changed_file_is_named(folder: Path, path: str) -> None:
    (folder / path).write_text("something else")
    assert [(file.path, file.happened) for file in check_folder(folder).changed] == [(path, "changed")]


def test_an_added_and_a_removed_file_are_named(folder: Path) -> None:
    (folder / "root/lib/python3.11/os.py").rename(folder / "root/lib/python3.11/evil.py")
    found = {file.path.rpartition("/")[2]: str(file.happened) for file in check_folder(folder).changed}
    assert found == {"evil.py": "added", "os.py": "removed"}


@pytest.mark.parametrize("target", [".", "/proc/self/mem", "os.py"])
def test_links_are_not_followed_out_of_a_folder_or_round_in_it(folder: Path, target: str) -> None:
    """Whoever checks a folder that somebody else made is often root."""
    for name in "abc":
        (folder / "root/lib/python3.11" / name).symlink_to(target)
    with pytest.raises(InvalidRequest, match="a link") as refused:
        check_folder(folder)
    assert refused.value.reason == "manifest.refused"


def test_a_file_that_is_trusted_with_two_digests_is_noticed(tmp_path: Path) -> None:
    """Gramine goes by the first, so the second would only be there for us to look at."""
    measured = Built().into(tmp_path)
    manifest = (tmp_path / "worker.manifest.sgx").read_text()
    check_trusted(manifest, measured.files)
    other = f'sgx.trusted_files = [\n  {{ uri = "file:root/bin/python3.11", sha256 = "{"ab" * 32}" }},'
    with pytest.raises(InvalidRequest) as refused:
        check_trusted(manifest.replace("sgx.trusted_files = [", other), measured.files)
    assert refused.value.reason == "manifest.mismatched"


def test_a_measurement_that_tells_of_other_options_than_the_manifest_has_is_noticed(tmp_path: Path) -> None:
    measured = Built().into(tmp_path)
    check_folder(tmp_path)
    replace(measured, options={**measured.options, "sgx.max_threads": 16}).write(tmp_path)
    with pytest.raises(InvalidRequest, match=r"sgx\.max_threads") as refused:
        check_folder(tmp_path)
    assert refused.value.reason == "manifest.mismatched"


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: flip(folder / "worker.sig", 600), "sigstruct.forged"),
        (lambda folder: (folder / "worker.sig").unlink(), "sigstruct.missing"),
        (lambda folder: flip(folder / "worker.unsigned.sig", 0), "sigstruct.malformed"),
    ],
    ids=["forged signature", "no signature", "changed SIGSTRUCT"],
)
def test_what_an_enclave_is_started_with_must_be_about_it(
    tmp_path: Path, signer: KeySigner, change: Callable[[Path], object], reason: str
) -> None:
    Built().into(tmp_path)
    sign(tmp_path, signer)
    check_folder(tmp_path)
    change(tmp_path)
    with pytest.raises(CloisterError) as refused:
        check_folder(tmp_path)
    assert refused.value.reason == reason


def test_the_signature_of_another_enclave_is_noticed(tmp_path: Path, signer: KeySigner) -> None:
    for name, threads in (("one", 32), ("two", 48)):
        Built(threads=threads).into(tmp_path / name)
        sign(tmp_path / name, signer)
    (tmp_path / "one" / "worker.sig").write_bytes((tmp_path / "two" / "worker.sig").read_bytes())
    with pytest.raises(InvalidRequest) as refused:
        check_folder(tmp_path / "one")
    assert refused.value.reason == "measurement.mismatched"


def test_a_changed_manifest_is_named(tmp_path: Path) -> None:
    Built().into(tmp_path)
    (tmp_path / "worker.manifest.sgx").write_text(_without_a_file(tmp_path))
    assert [file.path for file in check_folder(tmp_path).changed] == ["worker.manifest.sgx"]


def test_a_manifest_that_does_not_trust_all_files_is_none_of_this_folder(tmp_path: Path) -> None:
    """Whoever changes the manifest, and the measurement with it, so that the one goes with the other."""
    Built().into(tmp_path)
    (tmp_path / "worker.manifest.sgx").write_text(_without_a_file(tmp_path))
    measured = Measurement.read(tmp_path)
    replace(measured, files=measure_files(tmp_path, measured.kind)).write(tmp_path)
    with pytest.raises(InvalidRequest, match=r"os\.py") as refused:
        check_folder(tmp_path)
    assert refused.value.reason == "manifest.mismatched"


def test_a_file_that_the_manifest_trusts_and_nobody_has_is_noticed(tmp_path: Path) -> None:
    measured = Built().into(tmp_path)
    manifest = (tmp_path / "worker.manifest.sgx").read_text()
    check_trusted(manifest, measured.files)
    (tmp_path / "root/lib/python3.11/os.py").unlink()
    with pytest.raises(InvalidRequest, match=r"os\.py"):
        check_trusted(manifest, measure_files(tmp_path, measured.kind))


def _without_a_file(folder: Path) -> str:
    lines = (folder / "worker.manifest.sgx").read_text().splitlines()
    return "\n".join(line for line in lines if "os.py" not in line)
