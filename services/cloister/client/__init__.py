"""The SDK: judge evidence, seal requests, ask, keep receipts; for model owners, seal, register and allow.

`Client` for asyncio, `SyncClient` for everybody else; `OwnerClient` for model owners, `AuditorClient` for auditors,
both without `async` as well; `OperatorClient` for operators.

What is found here by name is loaded on first use, since nobody needs all of it; `__init__.pyi` gives type checkers the
same names.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

_NAMES: Final = {
    "answer": ("Answer",),
    "audit_export": ("AuditExport", "verify_export"),
    "audit_memory": ("AuditMemory",),
    "auditor": ("AuditedWorker", "AuditorClient"),
    "bundle": ("TrustBundle", "anchor_of"),
    "client": ("Client",),
    "evidence_file": ("EvidenceFile", "Kind", "judge_file"),
    "facts": ("quote_facts",),
    "fields": ("QuoteField", "quote_fields"),
    "floors": ("Floors",),
    "health": ("is_serving",),
    "identity": ("signing_key", "tls_files"),
    "job_overview": ("dead_letters", "job_queues"),
    "job_preparing": ("JobOptions",),
    "job_records": ("JobState", "JobStatus", "PreparedJob", "Sent"),
    "jobs": ("JobTicket", "Jobs"),
    "judging": ("Judgement", "judge", "step_meaning"),
    "log_audit": ("LogAudit",),
    "log_auditor": ("LogAuditor", "ProvenLine"),
    "log_checks": ("LogKeys", "Resumed", "SignedHead"),
    "many": ("Progress",),
    "mesh_folder": ("MeshFolder",),
    "operator": (
        "AuditLine",
        "apply_policy",
        "appraisals",
        "attested_evidence",
        "lift",
        "load_model",
        "mesh_status",
        "model_index",
        "policy_in_force",
        "published_keys",
        "releases",
        "revocations",
        "revoke",
        "unload_model",
    ),
    "operator_client": ("OperatorClient",),
    "outcome": ("Outcome",),
    "owner": ("OwnerClient", "SealedFiles", "list_models", "seal_to"),
    "owner_documents": (
        "DocumentKind",
        "OwnerDocument",
        "policy_draft",
        "read_document",
        "signer_set_draft",
    ),
    "pin": ("AttestedPin", "pin_by_evidence", "pin_by_fingerprint", "root_fingerprints"),
    "pinned": ("Pinned", "PinnedBy"),
    "policy": (
        "Consequence",
        "KeptEvidence",
        "PolicyDocument",
        "consequences",
        "kept_in",
        "read_policy",
        "signed_policy",
    ),
    "question": ("Inputs", "Options"),
    "quote_corpus": ("JudgedEntry", "judge_corpus"),
    "receipts": ("VerifiedReceipt", "load_receipt", "save_receipt", "verify_receipt"),
    "root_key_calls": ("root_keys", "rotate_root"),
    "release_explaining": ("ExplainedWorker", "explain_worker", "explained_workers", "policy_listed"),
    "release_terms": ("ReleaseTerms",),
    "roster": ("Refused", "Serving"),
    "statuses": ("status_meaning",),
    "sync": ("SyncClient",),
    "sync_jobs": ("SyncJobs",),
    "sync_roles": ("SyncAuditorClient", "SyncOwnerClient"),
    "timing": ("Timing",),
    "trust": ("VerifiedWorker", "believe"),
    "verifier_trust": ("renewed",),
    "withdrawing": ("lift_withdrawal", "withdraw", "withdrawals"),
}
_MODULES: Final = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found  # the next one finds it without asking here
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
