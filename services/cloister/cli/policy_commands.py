"""`cloister policy`: what evidence is appraised under, for the people who decide about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cloister.cli import policy_accept, policy_calls
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.identities import ed25519_key
from cloister.cli.options import AsJson, check_place, examples
from cloister.cli.output import print_json, say
from cloister.cli.policy_file import PolicyFile, opened
from cloister.cli.policy_words import plain_policy, print_policy
from cloister.client import PolicyDocument, read_policy, signed_policy
from cloister.errors import InvalidRequest, NotReady
from cloister.rpc.files import read_private

app = typer.Typer(help="The appraisal policy: which platforms and which code are believed.", no_args_is_help=True)


@app.callback()
def policy() -> None:
    """The appraisal policy: which platforms and which code are believed."""


@app.command(epilog=examples("cloister policy check policy.toml", "cloister policy check policy.signed.json --json"))
def check(file: PolicyFile, as_json: AsJson = False) -> None:
    """Say whether a policy loads, what it means, and who has signed it. Asks nobody.

    Ends with 1 when it does not load; the message names the key.
    """
    document = opened(file)
    if as_json:
        print_json(plain_policy(document))
    else:
        print_policy(document)


@app.command(
    epilog=examples(
        "cloister policy sign policy.toml --key alice.pem",
        "cloister policy sign policy.signed.json --key bob.pem",
        "cloister policy sign policy.toml --key alice.pem --out for-bob.json",
    )
)
def sign(
    file: PolicyFile,
    key: Annotated[Path, typer.Option(help="Your Ed25519 private key in PEM, mode 0600, without a passphrase.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where to write it. (default: beside TOML as .signed.json; else FILE itself)"),
    ] = None,
) -> None:
    """Add your signature to a policy. Several people sign one after another, each what the one before has made.

    Read it first, with 'check'. A file that is there with this same policy gets your signature beside those it has;
    with another one it is left as it is. Says the public key to name in the verifier's policy_signers.
    """
    document = opened(file)
    try:
        signer = ed25519_key(read_private(key), key)
    except NotReady as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    path = out or (file if document.enveloped else file.with_suffix(".signed.json"))
    check_place(path)
    if not document.enveloped and path.exists():
        document = _there(path, document)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(signed_policy(document, signer))
    part.replace(path)
    signers = read_policy(path).signers
    say(f"{path} is policy '{document.policy.policy_id}', version {document.policy.version}, signed by {len(signers)}")
    say(f"your key, for policy_signers: {signer.public_key().public_bytes_raw().hex()}")


def _there(path: Path, proposal: PolicyDocument) -> PolicyDocument:
    """What others have signed stays signed: the envelope at `path`, when it holds this proposal.

    Raises:
        Stop: It holds something else.
    """
    try:
        found = read_policy(path)
    except (NotReady, InvalidRequest) as error:
        raise Stop(f"{path} is something else and was left as it is; name another file with --out") from error
    if not found.enveloped or found.toml != proposal.toml:
        told = f"policy '{found.policy.policy_id}', version {found.policy.version}, signed by {len(found.signers)}"
        raise Stop(f"{path} holds {told}, and was left as it is; move it away, or name another file with --out")
    return found


policy_accept.add_to(app)
policy_calls.add_to(app)
