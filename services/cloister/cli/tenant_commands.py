"""`cloister tenant`: who may ask a gateway, for which models, how much; and the API keys that it is asked by.

They write the file that the gateway's settings name as `tenants_file`; each gateway process goes by it within a second.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.options import FOLDER, AsJson, MeshFolder, examples
from cloister.cli.output import print_json, say, table, warn
from cloister.cli.tenants_document import TenantsDocument
from cloister.gateway.api_keys import KEY_ID, new_key
from cloister.gateway.tenant_file import KeyTable, TenantEntry

app = typer.Typer(help="Who may ask a gateway, for which models, and how much.", no_args_is_help=True)
keys = typer.Typer(help="API keys of tenants, for clients over HTTPS.", no_args_is_help=True)
app.add_typer(keys, name="key")

Name = Annotated[str, typer.Argument(metavar="TENANT", help="Name of the tenant: a-z 0-9 . _ -")]


@app.command(
    epilog=examples(
        "cloister tenant add radiology --model breast-cancer --certificate client/ward-7",
        "cloister tenant add research --all-models --rate 50 --share 3",
    )
)
def add(
    name: Name,
    model: Annotated[list[str] | None, typer.Option(help="A model that it sees; repeat.")] = None,
    all_models: Annotated[bool, typer.Option("--all-models", help="It sees every model.")] = False,
    certificate: Annotated[
        list[str] | None,
        typer.Option(help="Whose certificate it is known by: ROLE/NAME, or the SPIFFE id; repeat."),
    ] = None,
    calls: Annotated[int | None, typer.Option(help="Most requests without an answer.")] = None,
    rate: Annotated[float | None, typer.Option(help="Most requests a second in the long run.")] = None,
    burst: Annotated[int | None, typer.Option(help="How many at once after a pause.")] = None,
    share: Annotated[int | None, typer.Option(help="Turns in each round of a queue, where others have one.")] = None,
    mesh_folder: MeshFolder = FOLDER,
) -> None:
    """Add a tenant. Models and identities may be changed later, in the file."""
    if bool(model) == all_models:
        raise typer.BadParameter("name each model that it sees with --model, or say --all-models")
    mesh = Mesh.read(mesh_folder)
    document = TenantsDocument(mesh)
    facts = {
        "models": None if all_models else list(model or ()),
        "all_models": all_models or None,
        "certificates": [_spiffe(mesh, each) for each in certificate or ()] or None,
        "calls": calls,
        "rate": rate,
        "burst": burst,
        "share": share,
    }
    document.add(name, facts)
    say(f"tenant {name} in {document.path}", "bold")
    if not certificate:
        say(f"nobody is {name} yet: 'cloister tenant key add {name}' makes a key, or name certificates or tokens there")


@app.command(epilog=examples("cloister tenant remove radiology"))
def remove(name: Name, mesh_folder: MeshFolder = FOLDER) -> None:
    """Take a tenant away, with its keys: it is refused from then on, and its open streams end."""
    TenantsDocument(Mesh.read(mesh_folder)).remove(name)
    say(f"tenant {name} is gone", "bold")


@app.command("list", epilog=examples("cloister tenant list", "cloister tenant list --json"))
def list_(mesh_folder: MeshFolder = FOLDER, as_json: AsJson = False) -> None:
    """Show the tenants, what they see, and how they are known; of keys their ids, and when they end."""
    content = TenantsDocument(Mesh.read(mesh_folder)).content
    if as_json:
        tenants = {name: _facts(entry) for name, entry in content.tenants.items()}
        print_json({"unlisted_certificates": content.unlisted_certificates, "tenants": tenants})
        return
    rows = [(name, _models(entry), _known_by(entry), _limits(entry)) for name, entry in content.tenants.items()]
    table(("tenant", "models", "known by", "limits"), rows)
    if content.unlisted_certificates:
        say("unlisted_certificates = true: any other client certificate of the mesh is a tenant too, with every model")


@keys.command(
    "add", epilog=examples("cloister tenant key add radiology", "cloister tenant key add radiology --days 90")
)
def add_key(
    name: Name,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="It ends after so many days.")] = None,
    mesh_folder: MeshFolder = FOLDER,
) -> None:
    """Make an API key and print it, this once; what is kept is its SHA-256."""
    document, key = TenantsDocument(Mesh.read(mesh_folder)), new_key()
    document.add_key(name, key, datetime.now(UTC) + timedelta(days=days) if days is not None else None)
    warn(f"key {key.id} of {name}; keep it now, for it is not kept here:")
    say(key.text)


@keys.command("revoke", epilog=examples("cloister tenant key revoke 3f9c2a71d0"))
def revoke_key(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Of the key: what stands between its two _.")],
    mesh_folder: MeshFolder = FOLDER,
) -> None:
    """Revoke an API key: it is refused from then on, and streams opened with it end."""
    if not KEY_ID.fullmatch(identifier):  # a whole key, pasted here, is not repeated
        raise Stop("that is no id of a key, which has 10 hex digits; 'cloister tenant list' shows them", ExitCode.USAGE)
    name = TenantsDocument(Mesh.read(mesh_folder)).revoke_key(identifier)
    say(f"key {identifier} of {name} is revoked", "bold")


def _spiffe(mesh: Mesh, text: str) -> str:
    return text if text.startswith("spiffe://") else f"spiffe://{mesh.cluster}/{text}"


def _models(entry: TenantEntry) -> str:
    return "every model" if entry.all_models else " ".join(entry.models or ()) or "none"


def _known_by(entry: TenantEntry) -> str:
    tokens = (f"tokens of {rule.issuer} ({name})" for name, rule in entry.tokens.items())
    ids = (f"key {identifier}{_until(key)}" for identifier, key in entry.keys.items())
    return ", ".join((*entry.certificates, *ids, *tokens)) or "nothing"


def _until(key: KeyTable) -> str:
    return f" until {key.expires:%Y-%m-%d}" if key.expires is not None else ""


def _limits(entry: TenantEntry) -> str:
    given = {name: getattr(entry, name) for name in ("calls", "rate", "burst", "share")}
    return " ".join(f"{name}={value}" for name, value in given.items() if value is not None)


def _facts(entry: TenantEntry) -> dict[str, Any]:
    return {
        "models": None if entry.all_models else list(entry.models or ()),
        "certificates": list(entry.certificates),
        "keys": {
            identifier: key.expires.isoformat() if key.expires is not None else None
            for identifier, key in entry.keys.items()
        },
        "tokens": {
            name: {"issuer": rule.issuer, "subject": rule.subject, "claim": rule.claim, "value": rule.value}
            for name, rule in entry.tokens.items()
        },
        "calls": entry.calls,
        "rate": entry.rate,
        "burst": entry.burst,
        "share": entry.share,
    }
