"""Platform families: what collateral is about, and how the right one is found for a quote.

A quote names its family in the PCK certificate that it carries. That is read here before anything in the quote is
believed, as a selector and nothing more: whether collateral and quote belong together is checked when the quote is
verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from cloister.appraisal import certs
from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.body import Tee
from cloister.appraisal.certs import Role
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.pck import parse_platform
from cloister.appraisal.quote import Quote
from cloister.appraisal.steps import Step, rejected


class PckCa(StrEnum):
    """The two CAs that certify platforms, by the words of Intel's service."""

    PROCESSOR = "processor"
    PLATFORM = "platform"


_CA_OF = {"Intel SGX PCK Processor CA": PckCa.PROCESSOR, "Intel SGX PCK Platform CA": PckCa.PLATFORM}


@dataclass(frozen=True, slots=True, order=True)
class Family:
    """A platform family: TEE, FMSPC (6 bytes), and the CA that certified the platform."""

    tee: Tee
    fmspc: bytes
    ca: PckCa

    def __str__(self) -> str:
        return f"{self.tee} {self.fmspc.hex()} {self.ca}"


def family_of_quote(quote: Quote) -> Family:
    """Return the family that a quote says it is of, believed by nobody yet.

    Raises:
        EvidenceRejected: Step 2; its PCK certificate cannot be read.
    """
    return _family_of_chain(quote.tee, quote.pck_chain)


def family_of_collateral(collateral: Collateral) -> Family:
    """Return the family that collateral says it is about, believed by nobody yet.

    Raises:
        EvidenceRejected: Step 2; the chain of the PCK revocation list cannot be read, or is of another CA.
    """
    issuer = certs.load(certs.split_pem(collateral.pck_crl_issuer_chain.encode())[0])
    return Family(collateral.tcb_info.tee, collateral.tcb_info.fmspc, _ca(issuer.common_name))


def check_endorsed(quote: Quote, anchor: TrustAnchor, now: datetime) -> None:
    """Check that a quote's PCK certificate was issued under the anchor, whether or not it has been revoked since.

    What can be checked without collateral, and so before any is asked for on a quote's word.

    Raises:
        EvidenceRejected: Step 2.
    """
    ders = certs.split_pem(quote.pck_chain)
    if len(ders) != 3:
        raise rejected(Step.CHAIN, "chain.broken", "the PCK chain is not of three certificates")
    pck, ca, root = (certs.load(der) for der in ders)
    if ca.common_name in Role.ROOT.value:  # in some genuine quotes the root comes before the CA
        ca, root = root, ca
    anchor.check_is_root(root.der)
    for certificate, role, issuer, below in ((ca, Role.PCK_CA, anchor.root, 1), (pck, Role.PCK, ca, 0)):
        certs.check(certificate, role, now)
        certs.check_issued(certificate, issuer, below=below)


@lru_cache(maxsize=1024)  # a worker brings the same chain each time it renews
def _family_of_chain(tee: Tee, pck_chain: bytes) -> Family:
    leaf = certs.load(certs.split_pem(pck_chain)[0])
    return Family(tee, parse_platform(leaf).fmspc, _ca(certs.common_name(leaf.issuer)))


def _ca(common_name: str) -> PckCa:
    ca = _CA_OF.get(common_name)
    if ca is None:
        raise rejected(Step.CHAIN, "certificate.role_mismatched", "a CA is not one that certifies platforms")
    return ca
