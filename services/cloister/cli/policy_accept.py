"""`cloister policy accept`: from enclaves that were built and measured to a policy that wants them, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tomlkit
import typer

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.options import examples
from cloister.cli.output import alarm, say
from cloister.cli.policy_file import opened
from cloister.client import PolicyDocument
from cloister.enclave.kinds import WORKER, EnclaveSet
from cloister.enclave.measurement import Measurement
from cloister.enclave.reference_values import SIMULATED, reference_values

_ROWS = "reference_values"


def add_to(app: typer.Typer) -> None:
    """Give the `policy` command this part."""
    app.command(
        epilog=examples(
            "cloister policy accept policy.toml --enclave enclaves/worker",
            "cloister policy accept policy.toml --enclave new/worker --enclave old/worker",
            "cloister policy accept policy.toml --enclave enclaves/worker --by-signer",
        )
    )(accept)


def accept(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy, TOML; what is not about enclaves stays.")],
    enclave: Annotated[
        list[Path], typer.Option(metavar="DIR", help="Folder of an enclave, or its measurement.json; may be repeated.")
    ],
    by_signer: Annotated[
        bool, typer.Option("--by-signer", help="Name signer, product and least ISVSVN, in place of MRENCLAVE.")
    ] = False,
    allow_simulated: Annotated[
        bool, typer.Option("--allow-simulated", help="For a simulated mesh: name enclaves that protect nothing.")
    ] = False,
) -> None:
    """Replace the enclaves that a policy names with these, and raise its version by one.

    They are workers of one set: the verifier lets in nobody else. Then 'sign' it, and 'explain' and
    'apply' it, as with any change.
    """
    measured = [Measurement.read(place) for place in enclave]
    for place, each in zip(enclave, measured, strict=True):
        if each.kind is not WORKER:
            raise Stop(f"{place} is a {each.kind.name}, and a policy of the verifier is about workers", ExitCode.USAGE)
    if any(each.enclave_set is EnclaveSet.SIMULATED for each in measured) and not allow_simulated:
        raise Stop(f"{SIMULATED}; a policy names it with --allow-simulated only", ExitCode.REFUSED)
    rows = reference_values(measured, by_signer=by_signer)
    before = opened(file)
    if before.enveloped:
        raise Stop(f"{file} is signed, and would not be any more: name the TOML that was signed", ExitCode.USAGE)
    after = _replaced(file, before, rows)
    say(f"{file} is version {after.policy.version} of policy '{after.policy.policy_id}', and names", "bold")
    for each in measured:
        say(f"  {each.kind.name} {each.mrsigner if by_signer else each.mrenclave}")
    if allow_simulated:
        alarm("Simulated enclaves protect nothing: a policy that names them is for trying things out.")


def _replaced(file: Path, before: PolicyDocument, rows: str) -> PolicyDocument:
    """Write the policy with these rows in place of its own, if it loads; its comments and order stay."""
    document = tomlkit.parse(before.toml.decode())
    document.pop(_ROWS, None)
    document["version"] = before.policy.version + 1
    part = file.with_name(f".{file.name}.part")
    try:
        part.write_text(f"{tomlkit.dumps(document).rstrip()}\n\n{rows}")
        after = opened(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return after
