"""`cloister policy explain MODEL`: what each attested worker would get of a model's key, and why."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from cloister.api.v1.provisioner_pb2 import ModelSummary, ReleasePolicy
from cloister.cli.failures import ExitCode, Stop
from cloister.cli.mesh_folder import Mesh
from cloister.cli.output import print_json, warn
from cloister.cli.reaching import reached
from cloister.cli.release_words import plain_explained, print_explained
from cloister.cli.trusted import trusted
from cloister.client import (
    DocumentKind,
    ExplainedWorker,
    explained_workers,
    list_models,
    policy_listed,
    read_document,
)
from cloister.errors import NotReady
from cloister.rpc.files import read_public
from cloister.seal.release_policy import ReleasePolicy as ReadPolicy
from cloister.seal.release_policy import parse_policy

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_FILES: Final = (".toml", ".json")


def is_model(subject: str) -> bool:
    """Whether `explain` is asked about a model, and not a file: no file is there, and the name is not like one's."""
    named = _NAME.fullmatch(subject) is not None and not subject.endswith(_FILES)
    return named and not Path(subject).exists()


def explain_release(
    name: str,
    *,
    draft: Path | None,
    version: int,
    mesh: Mesh,
    identity: Path | None,
    trust: Path | None,
    as_json: bool,
) -> None:
    """Judge everyone attested now by a model's release policy.

    Args:
        name: The model's.
        draft: A policy in a file, in place of the one in force.
        version: Of the model; 0 for its newest that is not withdrawn.
        mesh: Where to ask.
        identity: Folder of an owner's or auditor's; None for the mesh folder's own.
        trust: Trust bundle that names the verifier's keys; None for the mesh folder's own.
        as_json: For a script.

    Raises:
        typer.Exit: With 3, when somebody would get nothing.
    """
    bundle = trusted(trust or mesh.trust)
    asks = identity or _identity(mesh)

    async def call() -> tuple[Sequence[ExplainedWorker], ReleasePolicy, ModelSummary]:
        async with reached(mesh, asks, "provisioner", mesh.provisioner) as provisioner:
            versions = [each for each in await list_models(provisioner) if each.name == name]
        chosen = _chosen(versions, name, version)
        read = _drafted(draft, name, mesh) if draft is not None else _in_force(chosen)
        shown = chosen.policy if draft is None else read_document(read_public(draft)).policy()
        async with reached(mesh, asks, "verifier", mesh.verifier) as verifier:
            explained = explained_workers(verifier, bundle, read, model_version=chosen.version)
            return [one async for one in explained], shown, chosen

    found, policy, model = asyncio.run(call())
    barred = _barred(model, policy)
    if as_json:
        workers = [plain_explained(one) for one in found]
        shown = {"model": name, "version": model.version, "policy": policy.version, "barred": barred or None}
        print_json({**shown, "workers": workers})
    else:
        print_explained(found, policy, model.version)
        if draft is not None:
            warn(f"This is {draft}, and not the policy in force.")
        if barred:
            warn(f"Nobody gets the key now, whatever the rules say: {barred}.")
    if barred or not all(one.entitled for one in found):
        raise typer.Exit(ExitCode.REFUSED)


def _identity(mesh: Mesh) -> Path:
    owner = mesh.identity("owner")
    return owner if owner.is_dir() else mesh.identity("auditor")


def _chosen(versions: Sequence[ModelSummary], name: str, version: int) -> ModelSummary:
    if not versions:
        raise Stop(f"you have no model '{name}', nor is there a file of that name; 'cloister model list' shows them")
    if not version:
        left = [each for each in versions if not each.HasField("withdrawal")]
        return max(left or versions, key=lambda each: each.version)
    for each in versions:
        if each.version == version:
            return each
    raise Stop(f"{name} has no version {version}; it has {', '.join(str(each.version) for each in versions)}")


def _barred(model: ModelSummary, policy: ReleasePolicy) -> str:
    """What keeps the key from everybody, apart from the rules; empty where nothing does."""
    if model.HasField("withdrawal"):
        return f"it is withdrawn ({model.withdrawal.reason})"
    if model.held_since and policy.log_generation != model.held_since:
        return "it is held since the provisioner's log was resumed, until a policy is signed anew"
    return ""


def _in_force(model: ModelSummary) -> ReadPolicy:
    policy = policy_listed(model)
    if policy is None:
        raise Stop(f"nobody may have {model.name}'s key: it has no policy; 'cloister model allow' sets one")
    return policy


def _drafted(file: Path, name: str, mesh: Mesh) -> ReadPolicy:
    try:
        document = read_document(read_public(file))
    except NotReady as error:
        raise Stop(str(error), ExitCode.USAGE) from error
    if document.kind is not DocumentKind.POLICY:
        raise Stop(f"{file} is no release policy: 'cloister model allow --draft' writes one", ExitCode.USAGE)
    policy = parse_policy(document.content)
    if (policy.model_name, policy.cluster) != (name, mesh.cluster):
        raise Stop(f"{file} is a policy of {policy.model_name} in {policy.cluster}", ExitCode.USAGE)
    return policy
