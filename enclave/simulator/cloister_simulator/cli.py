"""The `cloister-simulator` command. Every use says on stderr that what it does is simulated."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cloister.ear.code import plain_td
from cloister.errors import CloisterError
from cloister.kit import log
from cloister_simulator import attestation as attestation_files
from cloister_simulator import store
from cloister_simulator.measurement import (
    Measurement,
    built_measurement,
    verifier_measurement,
    worker_measurement,
    worker_trust_domain,
)
from cloister_simulator.verifier import run_verifier
from cloister_simulator.worker import claimed_measurement, claimed_trust_domain, run_worker

NOTICE = "This is simulated: no SGX or TDX is involved, and its evidence is worth nothing against this machine's owner."

app = typer.Typer(
    help="A software quoting enclave for Cloister, for development and tests. It protects nothing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
PlatformFolder = Annotated[Path, typer.Argument(help="Folder of the simulated platform.", file_okay=False)]
PlatformOption = Annotated[
    Path, typer.Option("--platform", metavar="DIR", help="Folder of the simulated platform.", file_okay=False)
]
DebugEnclave = Annotated[bool, typer.Option("--debug-enclave", help="Claim to be a debug enclave.")]
OtherEnclave = Annotated[str | None, typer.Option("--mrenclave", metavar="HEX", help="Claim to be another enclave.")]


class Tee(StrEnum):
    """What a worker can run in."""

    SGX = "sgx"
    TDX = "tdx"


class Revocable(StrEnum):
    """Certificates that Intel can revoke."""

    PCK = "pck"
    PLATFORM_CA = "platform_ca"
    TCB_SIGNING = "tcb_signing"


class Measured(StrEnum):
    """Services that run in enclaves."""

    WORKER = "worker"
    VERIFIER = "verifier"


@app.callback()
def notice() -> None:
    """Say what this is before anything is done."""
    typer.echo(NOTICE, err=True)


@app.command()
def init(folder: PlatformFolder) -> None:
    """Make a simulated platform: its own root, keys and collateral."""
    store.create(folder, datetime.now(UTC))
    typer.echo(f"trust anchor  {folder / store.ROOT}")
    typer.echo(f"collateral    {folder / store.COLLATERAL}")
    typer.echo(f"for TDX       {folder / store.TDX_COLLATERAL}")
    typer.echo(f"private keys  {folder / store.KEYS}")


@app.command()
def collateral(
    folder: PlatformFolder,
    tcb_status: Annotated[str, typer.Option(help="TCB status that the platform is given.")] = "UpToDate",
    advisory: Annotated[list[str] | None, typer.Option(help="Advisory that applies to it; may be repeated.")] = None,
    revoke: Annotated[list[Revocable] | None, typer.Option(help="Certificate to revoke; may be repeated.")] = None,
) -> None:
    """Issue collateral again: dated an hour ago, the next due in 30 days."""
    platform = store.load(folder, datetime.now(UTC))
    platform.tcb_status = tcb_status
    platform.advisory_ids = advisory or ()
    platform.revoked = {each.value for each in revoke or ()}
    store.write_collateral(folder, platform)
    typer.echo(f"collateral    {folder / store.COLLATERAL}")
    typer.echo(f"for TDX       {folder / store.TDX_COLLATERAL}")


@app.command()
def measure(
    service: Annotated[Measured, typer.Argument(help="Whose code to measure.")] = Measured.WORKER,
    tee: Annotated[Tee, typer.Option(help="What the worker runs in.")] = Tee.SGX,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    only: Annotated[str, typer.Option("--value", metavar="NAME", help="Print this value alone, mrenclave say.")] = "",
) -> None:
    """Print what a simulated worker, or verifier, measures as."""
    values = _domain_values(service) if tee is Tee.TDX else _enclave_values(service)
    if only:
        if only.lower() not in values:
            raise typer.BadParameter(f"--value is one of {', '.join(values)}")
        typer.echo(values[only.lower()])
        return
    if as_json:
        typer.echo(json.dumps(values))
        return
    for name, value in values.items():
        typer.echo(f"{name.upper():14}  {'yes' if value is True else value}")


@app.command()
def worker(
    settings: Annotated[Path, typer.Option(metavar="FILE", help="Settings of the worker.", dir_okay=False)],
    platform: PlatformOption,
    tee: Annotated[Tee, typer.Option(help="What it runs in: an SGX enclave or a TDX trust domain.")] = Tee.SGX,
    debug_enclave: DebugEnclave = False,
    mrenclave: OtherEnclave = None,
    mrtd: Annotated[str | None, typer.Option(metavar="HEX", help="Claim to be another trust domain.")] = None,
) -> None:
    """Run a worker whose evidence this platform makes; it listens and stops as cloister-worker does."""
    if (mrenclave if tee is Tee.TDX else mrtd) is not None:
        raise typer.BadParameter("--mrenclave is of an enclave, --mrtd of a trust domain (--tee tdx)")
    claimed = (
        claimed_trust_domain(worker_trust_domain(), mrtd=mrtd, debug=debug_enclave)
        if tee is Tee.TDX
        else claimed_measurement(_true(Measured.WORKER), mrenclave=mrenclave, debug=debug_enclave)
    )
    raise typer.Exit(run_worker(settings, store.load(platform, datetime.now(UTC)), claimed))


@app.command()
def verifier(
    settings: Annotated[Path, typer.Option(metavar="FILE", help="Settings of the verifier.", dir_okay=False)],
    platform: PlatformOption,
    debug_enclave: DebugEnclave = False,
    mrenclave: OtherEnclave = None,
) -> None:
    """Run a verifier that judges simulated evidence, and whose own this platform makes; else as cloister-verifier."""
    measurement = claimed_measurement(_true(Measured.VERIFIER), mrenclave=mrenclave, debug=debug_enclave)
    raise typer.Exit(run_verifier(settings, store.load(platform, datetime.now(UTC)), measurement))


@app.command()
def attestation(
    folder: Annotated[Path, typer.Argument(help="Folder to serve; the enclave mounts it on /dev/attestation.")],
    platform: PlatformOption,
    enclave: Annotated[Path, typer.Option(metavar="DIR", help="Folder it was built in.", file_okay=False)],
    until_exit_of: Annotated[
        int | None, typer.Option(metavar="PID", help="Stop when this process ends; by SIGTERM in any case.", min=1)
    ] = None,
    debug_enclave: DebugEnclave = False,
    mrenclave: OtherEnclave = None,
) -> None:
    """Serve Gramine's attestation files to an enclave under gramine-direct, which then attests as on real hardware.

    They are there once FOLDER/attestation_type is.
    """
    measurement = claimed_measurement(built_measurement(enclave), mrenclave=mrenclave, debug=debug_enclave)
    quote = partial(store.load(platform, datetime.now(UTC)).quote, **asdict(measurement))
    log.configure("attestation")
    asyncio.run(attestation_files.serve(folder, quote, until_exit_of=until_exit_of))


def _enclave_values(service: Measured) -> dict[str, object]:
    measurement = _true(service)
    return {
        "mrenclave": measurement.mrenclave.hex(),
        "mrsigner": measurement.mrsigner.hex(),
        "isvprodid": measurement.isvprodid,
        "isvsvn": measurement.isvsvn,
        "simulated": True,
    }


def _domain_values(service: Measured) -> dict[str, object]:
    if service is not Measured.WORKER:
        raise typer.BadParameter("only workers run in trust domains")
    measurement = worker_trust_domain().measurement
    return {"td_measurement": measurement.digest.hex(), **plain_td(measurement), "simulated": True}


def _true(service: Measured) -> Measurement:
    return verifier_measurement() if service is Measured.VERIFIER else worker_measurement()


def main() -> None:
    """Run the command; what goes wrong on purpose is one line and exit code 1."""
    try:
        app()
    except (CloisterError, OSError) as error:
        typer.echo(f"cloister-simulator: {error}", err=True)
        sys.exit(1)
