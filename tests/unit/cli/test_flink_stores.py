"""Key stores for Flink: made with the mesh, and by anybody without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates
from cryptography.x509 import DNSName, SubjectAlternativeName

from cloister.cli.mesh_folder import Mesh
from cloister.rpc.certificates import load_certificate

Run = Callable[..., tuple[int, str, str]]
FILES = ["internal.p12", "password", "rest.p12"]


def test_a_mesh_comes_with_stores_that_its_own_root_has_no_part_in(mesh: Mesh) -> None:
    assert sorted(path.name for path in mesh.flink.iterdir()) == FILES
    root = load_certificate((mesh.folder / "pki" / "root_ca.pem").read_bytes())
    _, certificate, _ = load_key_and_certificates(
        (mesh.flink / "rest.p12").read_bytes(), (mesh.flink / "password").read_bytes()
    )
    assert certificate is not None
    assert certificate.issuer == certificate.subject != root.subject


def test_a_data_owner_makes_them_without_a_mesh_and_anew(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "flink"
    contents = set()
    for _ in range(2):
        code, said, _ = run("identity", "flink", folder, "--host", "flink.example.org", "--days", "30")
        assert code == 0
        assert "good for 30 days" in said
        contents.add((folder / "rest.p12").read_bytes())
    assert len(contents) == 2
    assert sorted(path.name for path in folder.iterdir()) == FILES
    _, certificate, _ = load_key_and_certificates(
        (folder / "rest.p12").read_bytes(), (folder / "password").read_bytes()
    )
    assert certificate is not None
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    assert "flink.example.org" in names.get_values_for_type(DNSName)
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 30
