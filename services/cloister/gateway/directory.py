"""Whose tenant an identity is, and what that tenant sees: the tenants file in force.

An identity is the id of a peer: the SPIFFE id of a certificate, or for who came by a key or a token
`spiffe://<cluster>/tenant/<tenant>/key/<id>` and `.../token/<rule>`. No certificate bears such a name: `tenant` is no
role, and the ids of certificates have three parts (`rpc.spiffe`).

To a tenant, a model that it may not see is one that does not exist. So that both are answered by the same code, and
neither sooner than the other, a request for such a model goes on as one for the model without a name, which nobody can
serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final

from cloister.errors import NotFound, Unauthenticated
from cloister.gateway.tenant_file import KeyTable, TenantsFile, TokenTable
from cloister.gateway.wire import Route

NO_MODEL: Final = ""
_IDENTITY: Final = "spiffe://"
_OPEN: Final = TenantsFile(unlisted_certificates=True)


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who shares limits, turns and counts.

    Attributes:
        name: In the tenants file; for who is not in it, the SPIFFE id.
        models: Names of the models that it sees; None for every model.
    """

    name: str
    models: frozenset[str] | None = None

    def sees(self, model: str) -> bool:
        """Whether a model exists, as far as this tenant can tell."""
        return self.models is None or model in self.models

    def seen(self, model: str) -> str:
        """The name to look a model up by: its own, or for one that it does not see a name that no model has."""
        return model if self.models is None or model in self.models else NO_MODEL

    def seen_route(self, route: Route) -> Route:
        """The same for a request's route."""
        return route if self.models is None or route.model_name in self.models else route._replace(model_name=NO_MODEL)


@dataclass(frozen=True, slots=True)
class KnownKey:
    """An API key in force: the identity of who shows it, its SHA-256, and when it ends, in Unix time."""

    identity: str
    digest: bytes
    expires_at: float


@dataclass(frozen=True, slots=True)
class KnownRule:
    """A rule in force: whose it is, and the identity of who shows a token that it takes."""

    tenant: str
    identity: str
    table: TokenTable


class Directory:
    """Looks identities up; changes as a whole.

    Args:
        cluster: Trust domain; may be left out where no file will be.
        file: What is in force at first; without one, each certificate is a tenant of its own and sees every model.
    """

    def __init__(self, cluster: str = "", file: TenantsFile = _OPEN) -> None:
        self._operators = f"spiffe://{cluster}/operator/"
        self._not_certified = f"spiffe://{cluster}/tenant/"
        self._changed = asyncio.Event()
        self.use(file)

    def use(self, file: TenantsFile) -> None:
        """Go by another file from now on."""
        self._unlisted = file.unlisted_certificates
        self._by_identity: dict[str, Tenant] = {}
        self._by_name: dict[str, Tenant] = {}
        self._keys: dict[str, KnownKey] = {}
        self._rules: dict[str, list[KnownRule]] = {}
        self._grounds: dict[str, object] = {}
        for name, entry in file.tenants.items():
            tenant = Tenant(name, None if entry.all_models else frozenset(entry.models or ()))
            self._by_name[name] = tenant
            self._by_identity.update(dict.fromkeys(entry.certificates, tenant))
            for identifier, key in entry.keys.items():
                identity = f"{self._not_certified}{name}/key/{identifier}"
                self._by_identity[identity] = tenant
                self._keys[identifier] = _known_key(identity, key)
                self._grounds[identity] = key
            for rule_name, rule in entry.tokens.items():
                identity = f"{self._not_certified}{name}/token/{rule_name}"
                self._by_identity[identity] = tenant
                self._rules.setdefault(rule.issuer, []).append(KnownRule(name, identity, rule))
                self._grounds[identity] = (rule, file.issuers[rule.issuer])
        self._names = dict.fromkeys(file.tenants)
        self._models = frozenset(model for entry in file.tenants.values() for model in entry.models or ())
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def names(self) -> Collection[str]:
        """The tenants of the file."""
        return self._names.keys()

    @property
    def models(self) -> Collection[str]:
        """The models that the file names."""
        return self._models

    def shown(self, most: int) -> frozenset[str]:
        """The first tenants of the file, for where not all may be named."""
        return frozenset(islice(self._names, most))

    def of(self, identity: str) -> Tenant:
        """Return the tenant of an identity that was verified.

        Raises:
            Unauthenticated: It is nobody's, or no longer (`tenant.unknown`).
        """
        tenant = self._by_identity.get(identity)
        if tenant is not None:
            return tenant
        if identity.startswith(self._operators):
            return _of_its_own(identity)
        if not self._unlisted or identity.startswith(self._not_certified):
            raise Unauthenticated(
                "you are known, and are none of this gateway's tenants; its operator can make you one",
                reason="tenant.unknown",
            )
        return _of_its_own(identity)

    def check_entitled(self, name: str, model: str) -> None:
        """Whether a tenant that was one when it asked may still have a model answer it.

        Raises:
            Unauthenticated: It is a tenant no longer (`tenant.unknown`).
            NotFound: It sees the model no longer.
        """
        tenant = self._by_name.get(name)
        if tenant is None and not name.startswith(_IDENTITY):
            raise Unauthenticated("this tenant is none of this gateway's any more", reason="tenant.unknown")
        tenant = tenant or self.of(name)  # one of its own has its identity for a name
        if not tenant.sees(model):
            raise NotFound("no such model")

    def key(self, identifier: str) -> KnownKey | None:
        """The API key of this id."""
        return self._keys.get(identifier)

    def rules(self, issuer: str) -> Sequence[KnownRule]:
        """Which tokens of an issuer are whose."""
        return self._rules.get(issuer, ())

    @asynccontextmanager
    async def while_known(self, identity: str) -> AsyncIterator[None]:
        """A block that ends, with an ExceptionGroup of `Unauthenticated`, once the identity is nobody's.

        So it does when the key or the rule that it came by is another, though of the same name.
        """
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._until_unknown(identity))
            yield
            watching.cancel()

    async def _until_unknown(self, identity: str) -> None:
        grounds = self._grounds.get(identity)
        while True:
            self.of(identity)
            if self._grounds.get(identity) != grounds:
                raise Unauthenticated("what you came by has changed; come again", reason="identity.expired")
            await self._changed.wait()


@lru_cache(maxsize=1024)
def _of_its_own(identity: str) -> Tenant:
    return Tenant(identity)


def _known_key(identity: str, key: KeyTable) -> KnownKey:
    expires_at = key.expires.timestamp() if key.expires is not None else float("inf")
    return KnownKey(identity, bytes.fromhex(key.sha256), expires_at)
