"""`cloister init`: found a mesh. Makes every key, identity and settings file of it in one folder, or nothing at all."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cloister.cli import flink_stores, identities, redis_files, settings_text
from cloister.cli.executables import SIMULATOR, executable
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.key_rotation import Ring
from cloister.cli.mesh_folder import MAIN, Mesh
from cloister.cli.ports import FIRST, free_ports
from cloister.client import TrustBundle, anchor_of
from cloister.errors import InvalidRequest
from cloister.gateway.routing import Routing
from cloister.kit.key_set import KeySigners, SignedKeySet
from cloister.rpc import certificates
from cloister.rpc.files import create_private
from cloister.rpc.spiffe import check_cluster, spiffe_id
from cloister.worker.settings import WantedModel

HOSTS = ("gateway", "verifier", "redis")  # reached from elsewhere, by other names than the mesh has for them
FOUNDED_ROLES = ("verifier", "provisioner", "gateway", "redis", "enrol", "owner", "client", "operator", "auditor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to found.

    Attributes:
        folder: Where; empty or absent.
        cluster: SPIFFE trust domain.
        models: What the workers of `cloister up` serve, each `name` or `name@version`.
        hosts: More names or addresses of the gateway, of the verifier's HTTPS and of Redis.
        simulated: With a simulated platform of its own in place of SGX.
        mrenclave: Measurements of workers that clients believe, and the verifier unless they are simulated; empty pins
            none, or for clients of a simulated mesh the simulated worker's own.
        first_port: Services take the first free ports from here on.
        provisioners: How many, on one state; one serves, and the others stand by.
    """

    folder: Path
    cluster: str
    models: Sequence[str]
    hosts: Sequence[str]
    simulated: bool
    mrenclave: Sequence[str] = ()
    first_port: int = FIRST
    provisioners: int = 1


def found(plan: Plan, now: datetime) -> Mesh:
    """Make the folder, whole: it is built beside its place and moved there when it is finished.

    Raises:
        Stop: The folder is not empty, a model is not named as one, or the simulator is not installed.
        InvalidRequest: The cluster's name is not one.
    """
    check_cluster(plan.cluster)
    for model in plan.models:
        _check_model(model)
    if plan.folder.exists() and (not plan.folder.is_dir() or any(plan.folder.iterdir())):
        raise Stop(f"{plan.folder} is not empty and was left as it is; name a new folder, or remove that one first")
    plan.folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{plan.folder.name}-", dir=plan.folder.parent))
    try:
        _build(plan, building, now)
        if plan.folder.exists():
            plan.folder.rmdir()
        building.rename(plan.folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Mesh.read(plan.folder)


def _check_model(text: str) -> None:
    """By the rule that a worker reads its settings with."""
    try:
        WantedModel.parse(text)
    except InvalidRequest as error:
        raise Stop(f"--model '{text[:80]}' is not NAME or NAME@VERSION: {error}", ExitCode.USAGE) from error


def _build(plan: Plan, folder: Path, now: datetime) -> None:
    addresses = (f"127.0.0.1:{port}" for port in free_ports(6 + plan.provisioners, first=plan.first_port))
    gateway, gateway_https, verifier, verifier_https, provisioner, console, redis, *standbys = addresses
    mesh = Mesh(
        folder=folder,
        cluster=plan.cluster,
        simulated=plan.simulated,
        gateway=gateway,
        verifier=verifier,
        provisioner=",".join((provisioner, *standbys)),
        verifier_https=verifier_https,
        gateway_https=gateway_https,
        console=console,
        redis=redis,
    )
    mesh.write(folder)
    mesh.models.mkdir()
    root = certificates.root_ca(plan.cluster, now=now)
    _write_authority(folder / "pki", "root_ca", root)
    for role in FOUNDED_ROLES:
        hosts = ("localhost", "127.0.0.1", role, *plan.hosts) if role in HOSTS else ()  # `role`: a service of that name
        identities.issue(root, plan.cluster, role, MAIN, mesh.identity(role), now=now, hosts=hosts)
    anchor_root = _simulated_platform(folder / "simulator") if plan.simulated else None
    verifier_id = str(spiffe_id(plan.cluster, "verifier", MAIN))
    signers, key_set = _write_signing_keys(mesh, verifier_id, now)
    _write_verifier(mesh, root, () if plan.simulated else plan.mrenclave, signers, now)
    _write_services(mesh, plan.models, verifier_id, signers)
    redis_files.found(mesh)
    first = SignedKeySet.read(key_set, signers, issuer=verifier_id)
    bundle = TrustBundle(
        cluster=plan.cluster,
        root_ca_pem=root.certificate_pem.decode(),
        verifier_id=verifier_id,
        verifier_jwks=first.published(now),
        thumbprints=first.keys.thumbprints,
        signers=signers,
        key_set=key_set,
        anchor=anchor_of(anchor_root.read_bytes() if anchor_root else None),
        mrenclave=_measurements(plan),
        owners=frozenset({identities.owner_key(mesh.identity("owner"))}),
    )
    mesh.trust.write_bytes(bundle.to_json())
    flink_stores.write(mesh.flink, now=now)


def _write_authority(folder: Path, name: str, authority: certificates.Authority) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    create_private(folder / f"{name}.key", certificates.key_pem(authority.key))
    (folder / f"{name}.pem").write_bytes(authority.certificate_pem)


def _write_signing_keys(mesh: Mesh, verifier_id: str, now: datetime) -> tuple[KeySigners, bytes]:
    """The keys for Attestation Results, and the key that vouches for them; return who may, and the signed set."""
    create_private(mesh.key_signer, identities.new_ed25519_pem())
    signer = identities.key_in(mesh.key_signer)
    mesh.signing_keys.parent.mkdir(mode=0o700)
    key_set = Ring(folder=mesh.signing_keys, issuer=verifier_id).found(signer, now)
    return KeySigners(frozenset({signer.public_key().public_bytes_raw().hex()})), key_set


def _write_verifier(
    mesh: Mesh, root: certificates.Authority, mrenclave: Sequence[str], signers: KeySigners, now: datetime
) -> None:
    """The verifier's folder: a CA for attested workers, policy, settings."""
    folder = mesh.folder / "verifier"
    _write_authority(folder, "attested_ca", certificates.intermediate_ca(root, mesh.cluster, now=now))
    simulator = "../simulator/" if mesh.simulated else ""
    anchor_root = f"{simulator}root.der" if simulator else ""
    policy = "policy.toml" if mrenclave else ""
    if policy:
        (folder / policy).write_text(settings_text.appraisal_policy(mrenclave))
    text = settings_text.verifier(
        mesh, anchor_root=anchor_root, collateral=f"{simulator}collateral.json", policy=policy, signers=signers
    )
    mesh.settings("verifier").write_text(text)


def _write_services(mesh: Mesh, models: Sequence[str], verifier_id: str, signers: KeySigners) -> None:
    for service in ("provisioner", "gateway", "worker"):
        (mesh.folder / service).mkdir(mode=0o700)
    create_private(mesh.folder / "provisioner" / "root.key", secrets.token_bytes(32))
    text = settings_text.provisioner(mesh, verifier_id=verifier_id, signers=signers)
    mesh.settings("provisioner").write_text(text)
    mesh.settings("gateway").write_text(settings_text.gateway(mesh))
    (mesh.folder / "gateway" / settings_text.ROUTING).write_bytes(Routing().encode())
    create_private(mesh.folder / "gateway" / settings_text.TENANTS, settings_text.TENANTS_TEXT.encode())
    owners = (identities.owner_key(mesh.identity("owner")),)
    mesh.settings("worker").write_text(settings_text.worker(mesh, models=models, owners=owners, signers=signers))


def _simulated_platform(folder: Path) -> Path:
    """Have the simulator, a program of its own, make a platform; return its root certificate."""
    _simulator("init", str(folder))
    return folder / "root.der"


def _measurements(plan: Plan) -> frozenset[str] | None:
    """What clients are to believe workers by: what was named, or what a simulated worker measures as here."""
    if plan.mrenclave or not plan.simulated:
        return frozenset(plan.mrenclave) or None
    return frozenset({str(json.loads(_simulator("measure", "--json"))["mrenclave"])})


def _simulator(*words: str) -> str:
    command = [executable(SIMULATOR), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  # fixed words
    if done.returncode != 0:
        raise Stop(f"the simulator failed: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout
