"""The SDK: judge evidence, seal requests, ask, keep receipts; for model owners, seal, register and allow.

`Client` for asyncio, `SyncClient` for everybody else, `OwnerClient` for model owners.
"""

from cloister.client.answer import Answer
from cloister.client.bundle import TrustBundle, anchor_of
from cloister.client.client import Client
from cloister.client.evidence_file import EvidenceFile, Kind, judge_file
from cloister.client.floors import Floors
from cloister.client.health import is_serving
from cloister.client.identity import tls_files
from cloister.client.judging import Judgement, judge, step_meaning
from cloister.client.operator import (
    AuditLine,
    apply_policy,
    appraisals,
    attested_evidence,
    lift,
    load_model,
    mesh_status,
    model_index,
    policy_in_force,
    releases,
    revocations,
    revoke,
    unload_model,
)
from cloister.client.owner import OwnerClient, SealedFiles, list_models, seal_to
from cloister.client.pin import AttestedPin, pin_by_evidence, pin_by_fingerprint, root_fingerprints
from cloister.client.pinned import Pinned, PinnedBy
from cloister.client.policy import (
    Consequence,
    KeptEvidence,
    PolicyDocument,
    consequences,
    kept_in,
    read_policy,
    signed_policy,
)
from cloister.client.quote_corpus import JudgedEntry, judge_corpus
from cloister.client.quote_facts import quote_facts
from cloister.client.receipts import VerifiedReceipt, load_receipt, save_receipt, verify_receipt
from cloister.client.roster import Refused, Serving
from cloister.client.sync import SyncClient
from cloister.client.timing import Timing
from cloister.client.trust import VerifiedWorker, believe
from cloister.client.verifier_trust import renewed

__all__ = [
    "Answer",
    "AttestedPin",
    "AuditLine",
    "Client",
    "Consequence",
    "EvidenceFile",
    "Floors",
    "JudgedEntry",
    "Judgement",
    "KeptEvidence",
    "Kind",
    "OwnerClient",
    "Pinned",
    "PinnedBy",
    "PolicyDocument",
    "Refused",
    "SealedFiles",
    "Serving",
    "SyncClient",
    "Timing",
    "TrustBundle",
    "VerifiedReceipt",
    "VerifiedWorker",
    "anchor_of",
    "apply_policy",
    "appraisals",
    "attested_evidence",
    "believe",
    "consequences",
    "is_serving",
    "judge",
    "judge_corpus",
    "judge_file",
    "kept_in",
    "lift",
    "list_models",
    "load_model",
    "load_receipt",
    "mesh_status",
    "model_index",
    "pin_by_evidence",
    "pin_by_fingerprint",
    "policy_in_force",
    "quote_facts",
    "read_policy",
    "releases",
    "renewed",
    "revocations",
    "revoke",
    "root_fingerprints",
    "save_receipt",
    "seal_to",
    "signed_policy",
    "step_meaning",
    "tls_files",
    "unload_model",
    "verify_receipt",
]
