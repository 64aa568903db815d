"""`cloister enclave build-mesh`: every enclave of a mesh folder in one go, believed by its verifier and its clients."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cloister.cli import policy_accept, settings_text
from cloister.cli.enclave_words import print_measurement
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import MeshArgument, examples
from cloister.cli.output import say
from cloister.cli.preparing import extras
from cloister.cli.redis_files import CONFIGURATION
from cloister.cli.trusted import trusted, write_bundle
from cloister.enclave.kinds import GATEWAY, KINDS, REDIS, VERIFIER, WORKER, EnclaveSet, Kind, kind_named
from cloister.enclave.service_settings import SETTINGS

if TYPE_CHECKING:
    from cloister.enclave.measurement import Measurement

_POLICY: Final = "policy.toml"


def add_to(app: typer.Typer) -> None:
    """Give the `enclave` command this part."""
    app.command(
        "build-mesh",
        epilog=examples(
            "cloister enclave build-mesh .cloister --out enclaves",
            "cloister enclave build-mesh .cloister --out enclaves --kind worker --kind provisioner",
        ),
    )(build_mesh)


def build_mesh(
    mesh_folder: MeshArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to make, with one for each kind.")],
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Build these kinds only; repeat.  [default: all but the gateway, which sees nothing]"),
    ] = None,
    isvsvn: Annotated[
        int, typer.Option(min=1, max=0xFFFF, help="Security version: raise it when older builds must not be believed.")
    ] = 1,
    allow_eventfd: Annotated[
        str, typer.Option(metavar="REASON", help="Insecure: the host may forge wake-ups, which is faster. Says why.")
    ] = "",
) -> None:
    """Build the enclaves of a mesh on this machine, for 'cloister up --enclaves'; simulated if the mesh is.

    The worker comes first: its measurement goes into the verifier's appraisal policy, which is measured with the
    verifier, and into trust.json, which clients believe by. Both then name this worker and no other.
    """
    with extras("enclave"):
        from cloister.enclave.build import Wanted, build
    mesh = Mesh.read(mesh_folder)
    kinds = _kinds(mesh, kind)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Stop(f"{out} is not empty and was left as it is; name a new folder, or remove that one first")
    enclave_set = EnclaveSet.SIMULATED if mesh.simulated else EnclaveSet.HARDENED
    for each in kinds:
        wanted = Wanted(
            kind=each,
            enclave_set=enclave_set,
            settings=settings_of(mesh, each),
            isvsvn=isvsvn,
            eventfd_reason=allow_eventfd,
        )
        measured = build(wanted, out / each.name)
        print_measurement(measured, out / each.name)
        if each == WORKER:
            _believe(mesh, measured, out / each.name)
    signed = "" if mesh.simulated else f"sign each: cloister enclave sign {out / 'worker'} --key ...; then "
    say(f"next: {signed}cloister up {mesh_folder}{' --simulator' if mesh.simulated else ''} --enclaves {out}")


def _kinds(mesh: Mesh, names: list[str] | None) -> list[Kind]:
    """What to build, the worker before the verifier."""
    if names:
        chosen = [kind_named(name) for name in names]
        return sorted(chosen, key=lambda kind: list(KINDS).index(kind.name))
    return [kind for kind in KINDS.values() if kind != GATEWAY and settings_of(mesh, kind).exists()]


def settings_of(mesh: Mesh, kind: Kind) -> Path:
    """The settings of one kind of enclave in a mesh folder."""
    return settings_in(mesh.folder, kind)


def settings_in(folder: Path, kind: Kind) -> Path:
    """The same in a folder that holds what one machine needs of a mesh, such as /etc/cloister."""
    return folder / kind.name / (CONFIGURATION if kind == REDIS else SETTINGS)


def _believe(mesh: Mesh, measured: Measurement, folder: Path) -> None:
    """Have verifier and clients believe this worker and no other."""
    settings = mesh.settings(VERIFIER.name)
    policy = _policy_of(settings)
    if policy is not None:
        policy_accept.accept(policy, [folder], allow_simulated=mesh.simulated)
    else:
        (settings.parent / _POLICY).write_text(settings_text.appraisal_policy([measured.mrenclave]))
        _name_policy(settings)
    if mesh.trust.exists():
        write_bundle(replace(trusted(mesh.trust), mrenclave=frozenset({measured.mrenclave})), mesh.trust)


def _policy_of(settings: Path) -> Path | None:
    """The policy that the verifier's settings name; raises Stop where people must sign it."""
    found = tomllib.loads(settings.read_text())
    if found.get("policy_signers"):
        raise Stop(
            f"the policy that {settings} names is signed by people: have them accept the worker ('cloister policy "
            "accept', then 'sign'), and build the kinds one by one",
            ExitCode.USAGE,
        )
    return settings.parent / found["policy"] if found.get("policy") else None


def _name_policy(settings: Path) -> None:
    """Write the policy's name into the settings, before their first table."""
    head, bracket, tables = settings.read_text().partition("\n[")
    settings.write_text(f'{head}policy = "{_POLICY}"\n{bracket}{tables}')
