"""The `cloister` command: its parts put together, and the one place where errors become words and exit codes."""

from __future__ import annotations

import os
import sys

import typer

from cloister.cli import (
    audit_commands,
    bridge_command,
    ca_commands,
    collateral_commands,
    console_command,
    enclave_commands,
    evidence_commands,
    identity_commands,
    infer_command,
    jobs_commands,
    kubernetes_command,
    mesh_commands,
    model_commands,
    policy_commands,
    provisioner_commands,
    receipt_commands,
    recovery_commands,
    redis_commands,
    revoke_commands,
    submit_command,
    tenant_commands,
    trust_commands,
    verifier_commands,
)
from cloister.cli.failures import EXIT_CODES, ExitCode, Stop, exit_code, sentence
from cloister.cli.output import complain
from cloister.errors import CloisterError

app = typer.Typer(
    name="cloister",
    help=(
        "Encrypted AI models, served inside Intel SGX enclaves to clients that verify them first.\n\n"
        "Found a mesh with 'init', run it with 'up', seal and publish a model with 'model', ask it with 'infer'."
    ),
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
mesh_commands.add_to(app)
infer_command.add_to(app)
submit_command.add_to(app)
console_command.add_to(app)
kubernetes_command.add_to(app)
bridge_command.add_to(app)
app.add_typer(jobs_commands.app, name="jobs")
app.add_typer(model_commands.app, name="model")
app.add_typer(identity_commands.app, name="identity")
app.add_typer(evidence_commands.app, name="evidence")
app.add_typer(enclave_commands.app, name="enclave")
app.add_typer(policy_commands.app, name="policy")
app.add_typer(recovery_commands.app, name="recovery")
app.add_typer(provisioner_commands.app, name="provisioner")
app.add_typer(collateral_commands.app, name="collateral")
app.add_typer(receipt_commands.app, name="receipt")
app.add_typer(trust_commands.app, name="trust")
app.add_typer(audit_commands.app, name="audit")
app.add_typer(revoke_commands.app, name="revoke")
app.add_typer(tenant_commands.app, name="tenant")
app.add_typer(verifier_commands.app, name="verifier")
app.add_typer(ca_commands.app, name="ca")
app.add_typer(redis_commands.app, name="redis")


def main() -> None:
    """Run the command; what goes wrong on purpose is one sentence, never a traceback."""
    try:
        app()
    except BrokenPipeError:
        # Whoever read us has enough; nothing more may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FAILED)
    except (Stop, CloisterError, TimeoutError, OSError, ExceptionGroup) as error:
        cause = _first(error)
        if not isinstance(cause, (Stop, CloisterError, TimeoutError, OSError)):
            raise
        complain(sentence(cause))
        sys.exit(exit_code(cause))


def _first(error: BaseException) -> BaseException:
    """The first error in a group, as tasks that ran side by side leave it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
