"""The mesh's root, replaced in three steps, each of which leaves a mesh that works.

1. `add`: a new root is trusted beside the old one, by everybody in the folder; nothing is signed with it yet.
2. `use`: every identity and the workers' authority are signed anew, with the new root; the old one is still trusted.
3. `drop`: the old one is trusted no more.

Workers measure the roots they trust and hold them from their start on, so they are started anew after the first step;
whoever was handed a small mesh folder gets its new roots before the second.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from cloister.cli import identities
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.identities import mesh_root, replace_public
from cloister.cli.mesh_folder import Mesh
from cloister.client import TrustBundle
from cloister.rpc import certificates
from cloister.rpc.certificates import Authority, key_pem, root_ca
from cloister.rpc.files import create_private, replace_private


def add(mesh: Mesh, now: datetime) -> Authority:
    """Make a new root, and have it trusted beside the old one."""
    old, pki = mesh_root(mesh), mesh.folder / "pki"
    if (pki / "next_root_ca.pem").exists():
        raise Stop("a new root has been added already; go on with 'cloister ca use-root'", ExitCode.USAGE)
    new = root_ca(mesh.cluster, now=now)
    create_private(pki / "next_root_ca.key", key_pem(new.key))
    replace_public(pki / "next_root_ca.pem", new.certificate_pem)
    _trust(mesh, old.certificate_pem + new.certificate_pem)
    return new


def use(mesh: Mesh, now: datetime) -> int:
    """Sign everything anew with the root that was added; return how many identities there are."""
    pki = mesh.folder / "pki"
    try:
        new = Authority.from_pem((pki / "next_root_ca.pem").read_bytes(), (pki / "next_root_ca.key").read_bytes())
    except FileNotFoundError as error:
        raise Stop("no new root has been added; begin with 'cloister ca add-root'", ExitCode.USAGE) from error
    old = mesh_root(mesh)
    found = list(identities.listed(mesh))
    for each in found:
        identities.renew(new, each.folder, now=now)
    replace_authority(mesh, certificates.intermediate_ca(new, mesh.cluster, now=now))
    replace_public(pki / "previous_root_ca.pem", old.certificate_pem)
    replace_private(pki / "root_ca.key", key_pem(new.key))
    replace_public(pki / "root_ca.pem", new.certificate_pem)
    for name in ("next_root_ca.pem", "next_root_ca.key"):
        (pki / name).unlink()
    return len(found)


def drop(mesh: Mesh) -> None:
    """Trust the old root no more."""
    previous = mesh.folder / "pki" / "previous_root_ca.pem"
    if not previous.exists():
        raise Stop("there is no old root to drop; 'cloister ca use-root' comes before", ExitCode.USAGE)
    _trust(mesh, mesh_root(mesh).certificate_pem)
    previous.unlink()


def replace_authority(mesh: Mesh, authority: Authority) -> None:
    """Put another authority for attested workers in the verifier's folder."""
    folder = mesh.folder / "verifier"
    # Between the two the verifier finds a pair that does not fit, keeps what it has, and looks again.
    replace_private(folder / "attested_ca.key", key_pem(authority.key))
    replace_public(folder / "attested_ca.pem", authority.certificate_pem)


def _trust(mesh: Mesh, roots: bytes) -> None:
    """Have everybody in the folder trust these roots and no others."""
    for each in identities.listed(mesh):
        replace_public(each.folder / "trust_roots.pem", roots)
    bundle = TrustBundle.read(mesh.trust)
    replace_public(mesh.trust, replace(bundle, root_ca_pem=roots.decode()).to_json())
