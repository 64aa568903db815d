"""The tenants file: who the tenants are, by which identities they are known, which models they see, what they may ask.

    unlisted_certificates = false

    [tenants.radiology]
    models = ["breast-cancer"]
    certificates = ["spiffe://clinic.example/client/radiology"]
    rate = 50.0

    [tenants.radiology.keys.3f9c2a71d0]
    sha256 = "..."
    expires = 2027-01-31T00:00:00Z

    [tenants.radiology.tokens.staff]
    issuer = "hospital"
    claim = "department"
    value = "radiology"

    [issuers.hospital]
    issuer = "https://login.clinic.example"
    audience = "cloister"
    jwks_url = "https://login.clinic.example/keys"

Nothing that is left out or empty stands for everything: a tenant names its models, says `all_models = true`, or the
file does not load. It holds no secret: of an API key there is the SHA-256, of an issuer where its public keys are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from cloister.errors import InvalidRequest
from cloister.gateway.access_token import ALGORITHMS, DEFAULT_ALGORITHMS
from cloister.gateway.api_keys import KEY_ID
from cloister.gateway.jwks_url import check_jwks_url
from cloister.gateway.limits import TenantTable
from cloister.gateway.refusals import OTHER
from cloister.gateway.routing import NAME
from cloister.kit import config
from cloister.rpc.spiffe import SpiffeId

REASON: Final = "tenants.invalid"
TENANT: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
RULE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MAX_TENANTS: Final = 10_000
MAX_LIFE_S: Final = 86_400.0
CERTIFIED_ROLES: Final = frozenset({"client", "owner"})
"""Whose certificates make a tenant; an operator runs the gateway, and is none."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CLAIM: Final = re.compile(r"[!-~]{1,256}")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTable:
    """An API key of a tenant, by its id.

    Attributes:
        sha256: Of the whole key, in hex.
        expires: When it ends; None for never.
    """

    sha256: str
    expires: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """Which tokens of an issuer are a tenant's: those of one subject, or those in which a claim has a value.

    Attributes:
        issuer: One of the file's issuers, by its name there.
        subject: What `sub` must be.
        claim: A member of the token that is a text, or a list of texts.
        value: What it must be, or hold.
    """

    issuer: str
    subject: str = ""
    claim: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantEntry:
    """A tenant.

    Attributes:
        models: Names of the models that it sees; an empty list is none.
        all_models: Whether it sees every model, in place of `models`.
        certificates: SPIFFE ids.
        keys: API keys by id.
        tokens: Rules by name.
        calls, rate, burst, share: As in `TenantTable`.
    """

    models: tuple[str, ...] | None = None
    all_models: bool = False
    certificates: tuple[str, ...] = ()
    keys: Mapping[str, KeyTable] = field(default_factory=dict)
    tokens: Mapping[str, TokenTable] = field(default_factory=dict)
    calls: int | None = None
    rate: float | None = None
    burst: int | None = None
    share: int | None = None

    @property
    def limits(self) -> TenantTable:
        """What differs from every tenant's limits."""
        return TenantTable(**{each.name: getattr(self, each.name) for each in fields(TenantTable)})


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerTable:
    """Who issues tokens, and what they must be like.

    Attributes:
        issuer: What `iss` must be.
        audience: What `aud` must be, and nothing beside it.
        jwks_url: https address of its JSON Web Key Set, asked for again every few minutes.
        jwks_file: A file with that set, in place of `jwks_url`; watched.
        ca: PEM certificates that the address's TLS certificate must lead back to, in place of the system's.
        algorithms: What tokens may be signed with.
        max_life_s: The longest `exp` less `iat`.
    """

    issuer: str
    audience: str
    jwks_url: str = ""
    jwks_file: Path | None = None
    ca: Path | None = None
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    max_life_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantsFile:
    """What the file says.

    Attributes:
        unlisted_certificates: Whether a certificate of the mesh that no tenant lists is a tenant of its own, with every
            model; else it is nobody's.
        tenants: By name.
        issuers: By the name that rules use.
    """

    unlisted_certificates: bool = False
    tenants: Mapping[str, TenantEntry] = field(default_factory=dict)
    issuers: Mapping[str, IssuerTable] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.tenants) > MAX_TENANTS:
            raise ValueError(f"more than {MAX_TENANTS} tenants")
        for name, tenant in self.tenants.items():
            _require(TENANT.fullmatch(name), f"tenants: '{name[:80]}' is no name: a-z 0-9 . _ -, 1 to 63 of them")
            _require(name != OTHER, f"tenants: '{OTHER}' stands for whoever is counted together; take another name")
            _check_tenant(f"tenants.{name}", tenant)
        for name, issuer in self.issuers.items():
            _require(RULE.fullmatch(name), f"issuers: '{name[:80]}' is no name: a-z 0-9 _ -, 1 to 63 of them")
            _check_issuer(f"issuers.{name}", issuer)
        _check_once("certificate", ((t, each) for t, entry in self.tenants.items() for each in entry.certificates))
        _check_once("key", ((t, each) for t, entry in self.tenants.items() for each in entry.keys))
        _check_once("token rule", ((t, each) for t, entry in self.tenants.items() for each in entry.tokens.values()))
        _check_once("issuer", ((name, each.issuer) for name, each in self.issuers.items()))
        for tenant_name, tenant in self.tenants.items():
            for rule_name, rule in tenant.tokens.items():
                known = rule.issuer in self.issuers
                _require(known, f"tenants.{tenant_name}.tokens.{rule_name}: there is no [issuers.{rule.issuer[:80]}]")

    @classmethod
    def parse(cls, raw: bytes, path: Path, cluster: str) -> TenantsFile:
        """Read the file.

        Args:
            raw: Its content.
            path: Where it is, for messages, and for paths in it.
            cluster: Whose certificates may be listed.

        Raises:
            InvalidRequest: It makes no sense; the message names the key (`tenants.invalid`).
        """
        try:
            found = config.parse(cls, raw, path)
            for name, tenant in found.tenants.items():
                for certificate in tenant.certificates:
                    _check_certificate(f"tenants.{name}", certificate, cluster)
        except ValueError as error:
            raise InvalidRequest(f"{path}: {error}", reason=REASON) from error
        except InvalidRequest as error:
            raise InvalidRequest(str(error), reason=REASON) from error
        return found


def _check_tenant(where: str, tenant: TenantEntry) -> None:
    _require(
        (tenant.models is None) == tenant.all_models,
        f'{where}: say which models it sees, models = ["name", ...], or all_models = true, and not both',
    )
    for model in tenant.models or ():
        _require(NAME.fullmatch(model), f"{where}.models: '{model[:80]}' is no name of a model, without a version")
    for identifier, key in tenant.keys.items():
        _require(KEY_ID.fullmatch(identifier), f"{where}.keys: '{identifier[:20]}' is no id of a key: 10 hex digits")
        hashed = _SHA256.fullmatch(key.sha256)
        _require(
            hashed, f"{where}.keys.{identifier}.sha256 must be 64 hex digits; 'cloister tenant key add' makes keys"
        )
    for name, rule in tenant.tokens.items():
        _require(RULE.fullmatch(name), f"{where}.tokens: '{name[:80]}' is no name: a-z 0-9 _ -, 1 to 63 of them")
        _require(
            bool(rule.subject) != bool(rule.claim) and bool(rule.claim) == bool(rule.value),
            f"{where}.tokens.{name}: say a subject, or a claim and its value",
        )
        if rule.claim:
            _require(_CLAIM.fullmatch(rule.claim), f"{where}.tokens.{name}.claim is no name of a claim")


def _check_issuer(where: str, issuer: IssuerTable) -> None:
    _require(issuer.issuer and issuer.audience, f"{where}: issuer and audience must not be empty")
    _require(
        bool(issuer.jwks_url) != bool(issuer.jwks_file),
        f'{where}: say where its keys are, jwks_url = "https://..." or jwks_file, and not both',
    )
    if issuer.jwks_url:
        check_jwks_url(issuer.jwks_url, where)
    _require(issuer.jwks_url or issuer.ca is None, f"{where}.ca means nothing without jwks_url")
    unknown = sorted(set(issuer.algorithms) - ALGORITHMS.keys())
    _require(issuer.algorithms, f"{where}.algorithms must not be empty")
    _require(not unknown, f"{where}.algorithms: only {', '.join(ALGORITHMS)} are taken")
    _require(0 < issuer.max_life_s <= MAX_LIFE_S, f"{where}.max_life_s must be above zero, and a day at most")


def _check_certificate(where: str, text: str, cluster: str) -> None:
    try:
        found = SpiffeId.parse(text)
    except InvalidRequest as error:
        raise ValueError(f"{where}.certificates: '{text[:200]}' is {error}") from error
    _require(found.cluster == cluster, f"{where}.certificates: '{text[:200]}' is of another cluster than {cluster}")
    allowed = found.role in CERTIFIED_ROLES
    _require(allowed, f"{where}.certificates: '{text[:200]}': only a client or an owner can be a tenant")


def _check_once(what: str, pairs: Iterator[tuple[str, T]]) -> None:
    first: dict[T, str] = {}
    for name, each in pairs:
        if each in first:
            raise ValueError(f"one {what} is named twice, in {first[each]} and in {name}")
        first[each] = name


def _require(holds: object, message: str) -> None:
    if not holds:
        raise ValueError(message)
