"""The other verifier: `dcap-qvl`, which must agree before anything is accepted (docs/decisions/0002-two-verifiers.md).

Asked last, about quotes that we would accept, with the same quote, collateral, root and time. It mixes some policy into
its verification (it refuses debug enclaves, TDs with #VE on pending pages, TDs with service TDs); those are refused by
our policy without exception, so by the time it is asked, "does it accept too" is the right question. Padding that a
policy has allowed is taken off first, and both look at the PCK chain in the quote, never at one beside it.
"""

from __future__ import annotations

from datetime import datetime

import dcap_qvl  # type: ignore[import-untyped]  # it ships stubs, but no py.typed

from cloister.appraisal.collateral import Collateral
from cloister.appraisal.steps import Step, rejected
from cloister.appraisal.verify import VerifiedQuote
from cloister.errors import EvidenceRejected


def confirm(verified: VerifiedQuote, now: datetime) -> None:
    """Check that dcap-qvl accepts the quote with the same status, advisories and platform.

    Blocks for about a millisecond while holding the interpreter lock.

    Raises:
        EvidenceRejected: Step 8, reason `verifiers.disagree`.
    """
    try:
        report = dcap_qvl.verify_with_root_ca(
            verified.quote.raw,
            _collateral(verified.endorsed.collateral),
            verified.anchor.root_der,
            int(now.timestamp()),
        )
    except ValueError:
        raise _disagree() from None
    except BaseException as error:
        # A panic inside the library is raised as an exception outside `Exception`, of a class that cannot be imported.
        if type(error).__module__ == "pyo3_runtime":
            raise _disagree() from None
        raise
    theirs = (report.status, sorted(set(report.advisory_ids)), report.ppid)
    if theirs != (verified.tcb.status.value, list(verified.tcb.advisory_ids), verified.platform.ppid):
        raise _disagree()


def _collateral(collateral: Collateral) -> dcap_qvl.QuoteCollateralV3:
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_issuer_chain,
        root_ca_crl=collateral.root_ca_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=collateral.tcb_info_issuer_chain,
        tcb_info=collateral.tcb_info_document,
        tcb_info_signature=collateral.tcb_info_signature,
        qe_identity_issuer_chain=collateral.qe_identity_issuer_chain,
        qe_identity=collateral.qe_identity_document,
        qe_identity_signature=collateral.qe_identity_signature,
    )


def _disagree() -> EvidenceRejected:
    return rejected(Step.SECOND, "verifiers.disagree", "a second verifier does not confirm the quote")
