"""Where collateral comes from, and for which platform family: the addresses of the service's version 4.

A source is chosen by an operator, never by what an attester says; of that, a family's few words are all that ever gets
into a query. Intel's own service has no route to the root's revocation list, which lies at the distribution point that
Intel's root certificate names; a PCCS serves it beside the rest.

Documentation: https://api.portal.trustedservices.intel.com/content/documentation.html ("API Documentation", version 4).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlencode, urlsplit

from cloister.errors import InvalidRequest

INTEL_PCS: Final = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

_VERSION_PATH: Final = re.compile(r"/(?:sgx|tdx)/certification/v(\d+)\Z")
_FMSPC: Final = re.compile(r"[0-9a-f]{12}")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_PROXY: Final = re.compile(r"http://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}/?")
_MAX_EVALUATION: Final = 0xFFFFFFFF
_URL_INVALID: Final = "pcs.url_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The platform family that collateral is wanted for.

    Attributes:
        tee: `sgx` or `tdx`.
        fmspc: Family, model, stepping, platform and custom SKU: 12 lower-case hex digits.
        ca: Who certified the platform: `processor` or `platform`.
        update: `standard`, or `early` for what is published before the platforms' owners had time to patch.
        evaluation: Number of the TCB evaluation data set in place of `update`; None for the current one.

    Raises:
        InvalidRequest: A field is not what it should be.
    """

    tee: str
    fmspc: str
    ca: str
    update: str = "standard"
    evaluation: int | None = None

    def __post_init__(self) -> None:
        _require(self.tee in ("sgx", "tdx"), "the TEE is sgx or tdx")
        _require(_FMSPC.fullmatch(self.fmspc) is not None, "an FMSPC is 12 lower-case hex digits")
        _require(self.ca in ("processor", "platform"), "the CA is processor or platform")
        _require(self.update in ("standard", "early"), "the update is standard or early")
        if self.evaluation is not None:
            _require(0 < self.evaluation <= _MAX_EVALUATION, "an evaluation number is positive")
            _require(self.update == "standard", "an evaluation number takes the place of the update")

    @property
    def edition(self) -> dict[str, str]:
        """The query that says which evaluation data set is meant; the service refuses both words at once."""
        if self.evaluation is not None:
            return {"tcbEvaluationDataNumber": str(self.evaluation)}
        return {"update": self.update}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A service to fetch from.

    Attributes:
        url: `https://host[:port]`, with or without the path `/sgx/certification/v4` that other tools want to have.
        ca_file: PEM certificates that the service's TLS certificate must lead back to, instead of the system's.
        root_crl_url: Where the root's revocation list is, if not where this kind of service has it.
        proxy: `http://host:port` of a proxy that leads there; the environment's is never used. It carries TLS, and sees
            no more than which host is asked.
        plain_http: Whether `http` will do beyond this machine. All that comes is signed; what it hides is who asks.

    Raises:
        InvalidRequest: An address is not one, or is not of https.
    """

    url: str
    ca_file: Path | None = None
    root_crl_url: str = ""
    proxy: str = ""
    plain_http: bool = False

    def __post_init__(self) -> None:
        address = self._checked(self.url)
        version = _VERSION_PATH.search(address.path.rstrip("/"))
        spoken = version is None or version[1] == "4"
        _require(spoken, f"{address.hostname}: only version 4 of the service is spoken", _URL_INVALID)
        if self.root_crl_url:
            self._checked(self.root_crl_url)
        _require(
            not self.proxy or _PROXY.fullmatch(self.proxy) is not None, "a proxy is http://host:port", _URL_INVALID
        )

    def tcb_info(self, wanted: Wanted) -> str:
        """Address of the TCB info."""
        return self._at(wanted.tee, "tcb", {"fmspc": wanted.fmspc, **wanted.edition})

    def qe_identity(self, wanted: Wanted) -> str:
        """Address of the quoting enclave's identity."""
        return self._at(wanted.tee, "qe/identity", wanted.edition)

    def pck_crl(self, wanted: Wanted) -> str:
        """Address of the revocation list of the CA that certifies platforms."""
        return self._at("sgx", "pckcrl", {"ca": wanted.ca, "encoding": "der"})

    def root_crl(self) -> str:
        """Address of the root's revocation list."""
        if self.root_crl_url:
            return self.root_crl_url
        if urlsplit(self.url).hostname == urlsplit(INTEL_PCS).hostname:
            return INTEL_ROOT_CRL
        return self._at("sgx", "rootcacrl", {})

    def _at(self, tee: str, route: str, query: dict[str, str]) -> str:
        base = _VERSION_PATH.sub("", self.url.rstrip("/"))
        return f"{base}/{tee}/certification/v4/{route}" + (f"?{urlencode(query)}" if query else "")

    def _checked(self, url: str) -> SplitResult:
        try:
            address = urlsplit(url)
            host, _ = address.hostname, address.port
        except ValueError as error:
            raise InvalidRequest("the service's address is no URL", reason=_URL_INVALID) from error
        plain = bool(host) and not address.username and not address.password and url.isascii() and url.isprintable()
        plain = plain and not address.query and not address.fragment and bool(_PATH.fullmatch(address.path.rstrip("/")))
        wanted = "the service's address is https://host[:port][/path], without user, query or fragment"
        _require(plain, wanted, _URL_INVALID)
        secure = address.scheme == "https" or (address.scheme == "http" and (self.plain_http or _is_here(str(host))))
        _require(secure, f"{host}: only https is spoken beyond this machine", _URL_INVALID)
        return address


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require(holds: bool, message: str, reason: str = "pcs.request_invalid") -> None:
    if not holds:
        raise InvalidRequest(message, reason=reason)
