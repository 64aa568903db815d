"""`cloister enclave build`: from settings, and what is installed here, to a folder that Gramine can start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cloister.cli.enclave_words import print_measurement
from cloister.cli.options import examples
from cloister.cli.output import say
from cloister.cli.preparing import extras
from cloister.enclave.kinds import KINDS, EnclaveSet, kind_named


def add_to(app: typer.Typer) -> None:
    """Give the `enclave` command this part."""
    app.command(
        epilog=examples(
            "cloister enclave build worker --settings .cloister/worker/settings.toml --out enclaves/worker",
            "cloister enclave build verifier --settings verifier/settings.toml --out enclaves/verifier --isvsvn 2",
            "cloister enclave build worker --settings worker/settings.toml --out debug/worker --set debug",
        )
    )(build)


def build(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")],
    settings: Annotated[Path, typer.Option(help="Settings of the service; what they name as trusted is measured too.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to make.")],
    enclave_set: Annotated[
        EnclaveSet, typer.Option("--set", help="hardened for production; debug and simulated protect nothing.")
    ] = EnclaveSet.HARDENED,
    isvsvn: Annotated[
        int, typer.Option(min=1, max=0xFFFF, help="Security version: raise it when older builds must not be believed.")
    ] = 1,
    memory: Annotated[str | None, typer.Option(help="All memory of the enclave, a power of two such as 4G.")] = None,
    threads: Annotated[int | None, typer.Option(min=8, max=4096, help="Most threads at once.")] = None,
    edmm: Annotated[
        bool, typer.Option("--edmm", help="Memory is added as it is needed: newer CPUs, and Linux 6.0 or later.")
    ] = False,
    allow_eventfd: Annotated[
        str, typer.Option(metavar="REASON", help="Insecure: the host may forge wake-ups, which is faster. Says why.")
    ] = "",
) -> None:
    """Build an enclave: program, Gramine's runtime, settings and manifest in one folder, measured file by file.

    The same inputs give the same MRENCLAVE wherever and whenever they are built: 'check' compares two. A hardened
    enclave starts once it is signed ('sign'), and is believed once policies name it ('measure --reference-values').
    """
    with extras("enclave"):
        from cloister.enclave.build import Wanted
        from cloister.enclave.build import build as built
        from cloister.enclave.manifest import Sizing
        from cloister.kit.enclave_state import KEY
    wanted = Wanted(
        kind=kind_named(kind),
        enclave_set=enclave_set,
        settings=settings,
        sizing=Sizing(memory=memory, threads=threads, edmm=edmm or None),
        isvsvn=isvsvn,
        eventfd_reason=allow_eventfd,
    )
    key = settings.parent / KEY
    there = key.exists()
    measured = built(wanted, out)
    print_measurement(measured, out)
    if key.exists() and not there:
        say(
            f"made {key}: what this enclave keeps will lie under it; keep a copy off this machine. For a state that is "
            "there already, put back the key that it was begun with"
        )
    if enclave_set is EnclaveSet.HARDENED:
        say(f"next: cloister enclave sign {out} --key ...")
