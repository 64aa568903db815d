"""A simulated SGX and TDX platform: the recipe, the keys, and the quotes and collateral they make together.

Nothing here is checked for sense, on purpose: build a platform that is wholly valid, break one field, and watch the
Verifier object.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from cryptography.hazmat.primitives.serialization import Encoding

from cloister_simulator.certificates import PlatformKeys, certificate, chain
from cloister_simulator.collateral import AlterText, collateral_json
from cloister_simulator.extension import cpusvn
from cloister_simulator.quote import Header, QuoteParts, Report, encode_quote
from cloister_simulator.recipe import ATTRIBUTE_DEBUG, Recipe, Window
from cloister_simulator.signature import raw_public_key
from cloister_simulator.trust_domain import TrustDomain, encode_td_quote

COLLATERAL_LIFE = timedelta(days=30)
COLLATERAL_AGE = timedelta(hours=1)


@dataclass(slots=True, kw_only=True)
class Platform(Recipe):
    """One machine with a software quoting enclave, and the private "Intel" that vouches for it."""

    keys: PlatformKeys = field(default_factory=PlatformKeys, repr=False)

    @classmethod
    def generate(cls, now: datetime) -> Self:
        """A new, wholly valid platform whose collateral was issued an hour before `now`."""
        return cls(window=fresh_window(now), ppid=secrets.token_bytes(16), platform_instance_id=secrets.token_bytes(16))

    @property
    def tcb_level(self) -> str:
        """The status of the TCB level this platform is at: `tcb_status` under the name people say."""
        return self.tcb_status

    @tcb_level.setter
    def tcb_level(self, status: str) -> None:
        self.tcb_status = status

    def copy(self) -> Self:
        """The same platform, to break without breaking this one. Keys, and so the root, are shared."""
        return replace(self, revoked=set(self.revoked))

    def reissue(self, now: datetime) -> None:
        """Let collateral be dated as if issued an hour before `now`."""
        self.window = fresh_window(now)

    def root_der(self) -> bytes:
        """The root certificate in DER: the trust anchor a Verifier must be given to believe this platform."""
        return certificate(self, self.keys, "root").public_bytes(Encoding.DER)

    def collateral(
        self,
        *,
        tdx: bool = False,
        alter_tcb_info: AlterText | None = None,
        alter_qe_identity: AlterText | None = None,
    ) -> bytes:
        """The QuoteCollateralV3 JSON for this platform as it is now; the hooks change text before it is signed."""
        return collateral_json(
            self, self.keys, tdx=tdx, alter_tcb_info=alter_tcb_info, alter_qe_identity=alter_qe_identity
        )

    def td_quote(self, report_data: bytes, domain: TrustDomain | None = None, *, version: int | None = None) -> bytes:
        """Quote `report_data` (64 bytes) for a trust domain; what is not given is as the recipe says.

        Args:
            report_data: REPORTDATA, 64 bytes.
            domain: Who is quoted.
            version: 4, in which there are no bodies but that of TDX 1.0, or 5.

        Raises:
            ValueError: A field of the report has the wrong length.
        """
        return encode_td_quote(
            self._parts(report_data),
            self,
            report_data,
            TrustDomain() if domain is None else domain,
            self.td_quote_version if version is None else version,
        )

    def quote(
        self,
        report_data: bytes,
        *,
        mrenclave: bytes | None = None,
        mrsigner: bytes | None = None,
        isvprodid: int | None = None,
        isvsvn: int | None = None,
        attributes: bytes | None = None,
        mutate: Callable[[QuoteParts], None] | None = None,
    ) -> bytes:
        """Quote `report_data` (64 bytes) for an enclave; what is not given is as the recipe says.

        Args:
            report_data: REPORTDATA, 64 bytes.
            mrenclave: MRENCLAVE, 32 bytes.
            mrsigner: MRSIGNER, 32 bytes.
            isvprodid: ISVPRODID.
            isvsvn: ISVSVN.
            attributes: ATTRIBUTES, 16 bytes; the recipe's `debug` is still added.
            mutate: Changes the parts in place before they are signed.

        Returns:
            A DCAP quote, version 3.

        Raises:
            ValueError: A field of a report has the wrong length.
        """
        parts = self._parts(report_data)
        report = parts.report
        report.mrenclave = report.mrenclave if mrenclave is None else mrenclave
        report.mrsigner = report.mrsigner if mrsigner is None else mrsigner
        report.isvprodid = report.isvprodid if isvprodid is None else isvprodid
        report.isvsvn = report.isvsvn if isvsvn is None else isvsvn
        report.attributes = _with_debug(report.attributes if attributes is None else attributes, debug=self.debug)
        if mutate is not None:
            mutate(parts)
        return encode_quote(parts)

    def _parts(self, report_data: bytes) -> QuoteParts:
        return QuoteParts(
            header=self._header(),
            report=self._report(report_data),
            qe_report=self._qe_report(),
            qe_auth_data=self.qe_auth_data,
            certification_type=self.certification_type,
            certification_data=chain(self, self.keys, "pck") + b"\0",  # the real quoting enclave ends it with a NUL
            attestation_key=self.keys.attestation,
            report_signing_key=self.keys.attestation,
            qe_report_signing_key=self.keys.of(self.qe_report_signer),
        )

    def _header(self) -> Header:
        return Header(
            version=self.quote_version,
            attestation_key_type=self.attestation_key_type,
            tee_type=self.tee_type,
            qe_svn=self.qe_isvsvn,
            pce_svn=self.pcesvn,
            qe_vendor_id=self.qe_vendor_id,
            user_data=self.user_data,
        )

    def _report(self, report_data: bytes) -> Report:
        return Report(
            report_data=report_data,
            mrenclave=self.mrenclave,
            mrsigner=self.mrsigner,
            attributes=self.attributes,
            isvprodid=self.isvprodid,
            isvsvn=self.isvsvn,
            cpusvn=cpusvn(self),
            misc_select=self.misc_select,
            config_id=self.config_id,
            config_svn=self.config_svn,
            family_id=self.family_id,
            extended_product_id=self.extended_product_id,
        )

    def _qe_report(self) -> Report:
        bound = hashlib.sha256(raw_public_key(self.keys.attestation) + self.qe_auth_data).digest()
        return Report(
            report_data=bound + self.qe_report_data_padding,
            mrenclave=self.qe_mrenclave,
            mrsigner=self.qe_mrsigner,
            attributes=self.qe_attributes,
            isvprodid=self.qe_isvprodid,
            isvsvn=self.qe_isvsvn,
            cpusvn=cpusvn(self),
        )


def fresh_window(now: datetime) -> Window:
    """Issued an hour before `now`, so that a clock slightly behind still accepts it; the next due 30 days after."""
    moment = now.replace(microsecond=0)
    return Window(issued_at=moment - COLLATERAL_AGE, next_update=moment + COLLATERAL_LIFE)


def _with_debug(attributes: bytes, *, debug: bool) -> bytes:
    flags = int.from_bytes(attributes[:8], "little") | (ATTRIBUTE_DEBUG if debug else 0)
    return flags.to_bytes(8, "little") + attributes[8:]
