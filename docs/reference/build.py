"""Writes the reference of the Python SDK, as Markdown, from its docstrings: `make docs`.

Signatures and docstrings are read by griffe, without importing anything; what is public is what `cloister.client`
offers by name. A test keeps the committed pages true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import griffe

HERE: Final = Path(__file__).resolve().parent
SERVICES: Final = HERE.parents[1] / "services"
WIDTH: Final = 100
PAGES: Final = {
    "data-owner": (
        "Asking",
        "Connect, verify who serves a model, ask it with NumPy arrays.",
        "Client SyncClient Options Answer Outcome Inputs Progress Serving VerifiedWorker Refused Timing believe",
    ),
    "jobs": (
        "Jobs",
        "Requests that wait at the mesh: prepare, submit, watch, open the answer in this process or a later one.",
        "Jobs SyncJobs JobOptions JobTicket PreparedJob Sent JobStatus JobState",
    ),
    "trust": (
        "Trust",
        "Whom a client believes: the trust bundle, how a verifier is pinned, and the folder that holds all of it.",
        "TrustBundle Floors anchor_of MeshFolder tls_files pin_by_evidence pin_by_fingerprint AttestedPin Pinned "
        "PinnedBy root_fingerprints renewed",
    ),
    "receipts": (
        "Receipts",
        "What is kept of an answer, and what it proves offline.",
        "save_receipt load_receipt verify_receipt VerifiedReceipt",
    ),
    "owner": (
        "For model owners",
        "Seal a model, register it, say who may have its key, alone or with others; withdraw it again.",
        "seal_to SealedFiles signing_key OwnerClient SyncOwnerClient list_models ReleaseTerms policy_draft "
        "signer_set_draft read_document OwnerDocument DocumentKind policy_listed explained_workers explain_worker "
        "ExplainedWorker withdraw lift_withdrawal withdrawals",
    ),
    "auditor": (
        "For auditors",
        "What was decided and why, and evidence judged anew, by the auditor's own trust bundle.",
        "AuditorClient SyncAuditorClient AuditedWorker AuditLine LogAuditor LogAudit SignedHead LogKeys Resumed "
        "ProvenLine AuditMemory AuditExport verify_export judge Judgement step_meaning status_meaning "
        "quote_facts quote_fields QuoteField EvidenceFile Kind judge_file judge_corpus JudgedEntry",
    ),
    "operator": (
        "For operators",
        "The mesh as it is, models, policies, revocations, records; functions take a `cloister.rpc.channel.Peer`.",
        "OperatorClient mesh_status model_index load_model unload_model is_serving apply_policy policy_in_force revoke "
        "lift revocations appraisals releases attested_evidence published_keys read_policy signed_policy "
        "PolicyDocument kept_in KeptEvidence consequences Consequence job_queues dead_letters root_keys rotate_root",
    ),
}
"""Title, first line and names of each page."""
ERRORS: Final = "errors"
_HEADINGS: Final = {
    griffe.DocstringSectionKind.parameters: "Arguments",
    griffe.DocstringSectionKind.other_parameters: "Arguments",
    griffe.DocstringSectionKind.attributes: "Attributes",
    griffe.DocstringSectionKind.returns: "Returns",
    griffe.DocstringSectionKind.yields: "Yields",
    griffe.DocstringSectionKind.raises: "Raises",
}
_NAMED: Final = ("parameters", "other parameters", "attributes")


def pages() -> dict[str, str]:
    """The reference: content by file name."""
    package = griffe.load("cloister", search_paths=[SERVICES], docstring_parser="google", submodules=True)
    client, errors = package["client"], package["errors"]
    found = {
        f"{page}.md": _page(title, first, (_target(client[name]) for name in names.split()))
        for page, (title, first, names) in PAGES.items()
    }
    classes = [member for member in errors.members.values() if not member.is_alias and member.is_class]
    found[f"{ERRORS}.md"] = _page("Errors", "All of them are in `cloister.errors`.", classes)
    rows = [(page, title, first, names.split()) for page, (title, first, names) in PAGES.items()]
    rows.append((ERRORS, "Errors", "What can go wrong, by class.", [each.name for each in classes]))
    index = [f"- [{title}]({page}.md): {first}\n  {_list(names)}" for page, title, first, names in rows]
    head = (
        "# Reference of the Python SDK\n\nWritten by `make docs` from the docstrings; names are in `cloister.client`."
    )
    guide = "How to use all this: [the guide](../guides/python-client.md)."
    found["README.md"] = "\n\n".join((head, guide, "\n".join(index))) + "\n"
    return found


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _target(member: Any) -> Any:
    return member.final_target if member.is_alias else member


def _page(title: str, first: str, members: Iterable[Any]) -> str:
    parts = [f"# {title}", first, "Written by `make docs` from the docstrings; do not edit."]
    for member in members:
        parts += _member(member, 2)
    return "\n\n".join(parts) + "\n"


def _member(member: Any, level: int) -> Iterator[str]:
    name = member.name if level == 2 else f"{member.parent.name}.{member.name}"
    yield f"{'#' * level} {name}"
    if signature := _signature(member):
        yield f"```python\n{signature}\n```"
    yield from _docstring(member)
    if member.is_class:
        for each in member.members.values():
            if not each.name.startswith("_") and each.docstring and not each.is_alias:
                yield from _member(each, level + 1)


def _signature(member: Any) -> str:
    if member.is_class:
        bases = [str(base) for base in member.bases]
        init = member.members.get("__init__")
        made = (
            _called(member.name, init.parameters, "") if init is not None and "dataclass" not in member.labels else ""
        )
        head = f"class {member.name}({', '.join(bases)})" if bases else f"class {member.name}"
        return f"{head}\n{made}" if made else head
    if member.is_function:
        decorators = [f"@{decorator.value}\n" for decorator in member.decorators]
        kind = "async def" if "async" in member.labels else "def"
        returns = f" -> {member.returns}" if member.returns is not None else ""
        return "".join(decorators) + _called(f"{kind} {member.name}", member.parameters, returns)
    if "property" in member.labels:
        return f"@property\n{member.name}: {member.annotation}"
    return f"{member.name} = {member.value}" if member.value is not None else member.name


def _called(head: str, parameters: Any, returns: str) -> str:
    shown: list[str] = []
    keyword_only = False
    for each in parameters:
        if each.name in ("self", "cls"):
            continue
        if each.kind is griffe.ParameterKind.keyword_only and not keyword_only:
            keyword_only = True
            shown.append("*")
        stars = {griffe.ParameterKind.var_keyword: "**", griffe.ParameterKind.var_positional: "*"}.get(each.kind, "")
        default = f" = {each.default}" if each.default is not None and not stars else ""
        shown.append(f"{stars}{each.name}: {each.annotation}{default}")
    line = f"{head}({', '.join(shown)}){returns}"
    if len(line) <= WIDTH:
        return line
    return "\n".join((f"{head}(", *(f"    {each}," for each in shown), f"){returns}"))


def _docstring(member: Any) -> Iterator[str]:
    if member.docstring is None:
        return
    for section in member.docstring.parsed:
        if section.kind is griffe.DocstringSectionKind.text:
            yield section.value.strip()
        elif section.kind in _HEADINGS:
            yield "\n".join(
                (f"**{_HEADINGS[section.kind]}**\n", *(_item(section.kind.value, each) for each in section.value))
            )
        else:
            raise ValueError(
                f"{member.path}: a section of its docstring is of a kind that no page shows: {section.kind}"
            )


def _item(kind: str, each: Any) -> str:
    said = " ".join(each.description.split())
    if kind == "attributes" and each.annotation is not None:
        return f"- `{each.name}` (`{each.annotation}`): {said}"
    if kind in _NAMED:
        return f"- `{each.name}`: {said}"
    if kind == "raises":
        return f"- `{each.annotation}`: {said}"
    return said


def main() -> None:
    """Write all pages."""
    for name, content in pages().items():
        (HERE / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
