"""How a command ends: one exit code for each kind of failure, and one sentence in place of a traceback."""

from __future__ import annotations

import re
from enum import IntEnum

from cloister.errors import (
    CloisterError,
    EvidenceRejected,
    KeyRefused,
    LogBroken,
    NotAllowed,
    NotReady,
    Overloaded,
    SealBroken,
    Unauthenticated,
    Unavailable,
)


class ExitCode(IntEnum):
    """What a script can tell apart."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNAVAILABLE = 4


EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not believed or refused (evidence, seal, receipt, role), "
    "4 unavailable or overloaded: try again."
)

_REFUSED = (EvidenceRejected, KeyRefused, LogBroken, SealBroken, Unauthenticated, NotAllowed)
_UNAVAILABLE = (Unavailable, Overloaded, TimeoutError)

_ADVICE: dict[type[BaseException], str] = {
    Unavailable: "is the mesh up? See 'cloister status'",
    TimeoutError: "is the mesh up and has the model a worker? See 'cloister status', or allow more time with --timeout",
    Overloaded: "try again in a moment",
    EvidenceRejected: "do not send data there; 'cloister evidence show' says what was offered",
    SealBroken: "the bytes were changed on their way, or are meant for somebody else",
    LogBroken: "do not rely on what this record says until its operator explains that; keep a copy with --export",
    Unauthenticated: "name an identity of this mesh with --identity; 'cloister identity issue' makes one",
    NotAllowed: "name an identity with the right role with --identity; 'cloister identity issue' makes one",
    NotReady: "'cloister status' shows what the mesh is waiting for",
}


class Stop(Exception):
    """A command cannot go on, for a reason that is its user's to mend; the message says how."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


_ADVICE_BY_REASON = {
    "model.sealed_only": "leave out --plain",
    "log.resumed": "",
    "line.unknown": "",
    "memory.malformed": "",
    "export.malformed": "",
    "key.refused": "'cloister audit list' says why: has its owner published it, and allowed its key to these workers?",
    "identity.expired": "",
    "tenant.unknown": "the operator's command is 'cloister tenant add'",
    "model.not_loadable": "'loadable = true' in the settings of workers lets operators do that",
    "model.partly": "'cloister model index' shows what each version is waiting for",
    "memory.full": "'cloister model index' shows what is served",
    "model.missing": "has its owner put it there, with 'cloister model publish'?",
    "policy.unpinned": "",
    "policy.unsigned": "",
    "receipt.malformed": "keep receipts whole, as 'cloister infer --receipt' writes them",
    "jobs.off": "ask with 'cloister infer', or have its operator give it a Redis: 'cloister redis add'",
    "jobs.full": "run the same command again later: 'cloister jobs queues' shows operators how much waits",
    "jobs.memory_full": "run the same command again later, and tell the operator: the mesh's Redis has no memory left",
    "job.too_large": "--rows says how many rows are one job",
    "job.too_long": "say it with --life",
    "request.too_long": "say it with --life",
    "epoch.missing": "'cloister status' says whether the mesh takes jobs; ask with 'cloister infer' where it does not",
    "epoch.policy_wider": "accept that with 'cloister trust accept', or ask the owner for a narrower release policy",
    "file.unreadable": "",
    "file.exposed": "",
    "gramine.missing": "",
    "sgx.missing": "",
    "enclave.incomplete": "it has to be whole, as 'cloister enclave build' makes it",
    "image.differs": "",
    "image.impossible": "",
    "measured.unreadable": "",
    "tcb.impossible": "",
    "token.locked": "",
    "token.unusable": "",
    "measurement.missing": "",
    "sigstruct.missing": "",
    "sigstruct.unsigned": "",
    "pcs.ca_unusable": "name the file of its CA certificates, in PEM",
    "pcs.unreachable": "are --url and --ca-file right, and may this machine reach it?",
    "pcs.slow": "try again later, or name another service with --url",
    "pcs.busy": "try again later, or name another service with --url",
    "pcs.unknown": "are --fmspc, --tee and --ca those of the platform? '--for QUOTE' reads them from a quote",
    "collateral.family_unknown": "give the verifier collateral for it: 'cloister collateral fetch' and 'import'",
    "signature.insufficient": "have those sign it who may: 'cloister policy sign', 'cloister collateral sign', or, for "
    "what is a model's, 'cloister model sign'",
    "model.unavailable": "'cloister status' says whether it is withdrawn, and who holds its key; try again later",
    "withdrawal.unknown": "'cloister revoke list' tells what is",
    "withdrawal.exists": "'cloister revoke list' tells since when and why",
    "withdrawal.lift_unsigned": "",
    "revocation.lift_unsigned": "",
    "recovery.unordered": "",
    "recovery.not_needed": "",
    "root_key.other": "",
    "signer_set.superseded": "'cloister model allow --draft' writes one for those who sign now",
    "min_model_version.lowered": "leave out --min-version: it stays as it is",
    "token.key_unknown": "it is signed by a verifier that this trust bundle does not name; is it of another mesh?",
}
_DISTRUST = re.compile(r"CERTIFICATE_VERIFY_FAILED|Hostname Verification|certificate verify failed", re.IGNORECASE)


def _is_distrust(error: BaseException) -> bool:
    """TLS found the other end to be somebody else; gRPC reports that as it does a peer that is down."""
    return isinstance(error, Unavailable) and _DISTRUST.search(str(error)) is not None


def exit_code(error: BaseException) -> ExitCode:
    """The code that a command ends with because of `error`."""
    if isinstance(error, Stop):
        return error.code
    if isinstance(error, _REFUSED) or _is_distrust(error):
        return ExitCode.REFUSED
    if isinstance(error, FileNotFoundError):
        return ExitCode.USAGE
    return ExitCode.UNAVAILABLE if isinstance(error, _UNAVAILABLE) else ExitCode.FAILED


def sentence(error: BaseException) -> str:
    """What was wrong and what to do, on one line."""
    text = " ".join(str(error).split()) or _nameless(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename} cannot be used: {error.strerror}"
    if isinstance(error, CloisterError):
        text = f"{text} ({error.reason})"
    advice = next((_ADVICE[kind] for kind in type(error).__mro__ if kind in _ADVICE), "")
    advice = _ADVICE_BY_REASON.get(getattr(error, "reason", ""), advice)
    if _is_distrust(error):
        advice = "who answers there is not of the mesh that your identity is of; compare address and identity"
    return f"{text}; {advice}" if advice else text


def _nameless(error: BaseException) -> str:
    return "the deadline passed" if isinstance(error, TimeoutError) else type(error).__name__
