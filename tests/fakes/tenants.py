"""A tenants file in parts, and the desk that names whoever asks by it, with issuers that answer from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from cloister.gateway.api_keys import ApiKey, new_key
from cloister.gateway.credentials import Headers, TenantCredentials
from cloister.gateway.directory import Directory
from cloister.gateway.tenant_file import TenantsFile
from cloister.gateway.token_verifier import TokenVerifier
from cloister.rpc.identity import PeerIdentity
from fakes.oidc_issuer import AUDIENCE, ISSUER, OidcIssuer
from fakes.pki import CLUSTER

JWKS_URL = "https://login.clinic.example/keys"
RADIOLOGY, RESEARCH = new_key(), new_key()


def certificate(name: str, role: str = "client") -> str:
    return f"spiffe://{CLUSTER}/{role}/{name}"


def key_table(tenant: str, key: ApiKey, expires: str = "") -> str:
    table = f'[tenants.{tenant}.keys.{key.id}]\nsha256 = "{key.sha256}"\n'
    return table + (f"expires = {expires}\n" if expires else "")


def issuer_table(**changes: str) -> str:
    values = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": JWKS_URL, **changes}
    return "[issuers.hospital]\n" + "".join(f'{name} = "{value}"\n' for name, value in values.items() if value)


def tenants_text(issuer: str | None = None) -> str:
    """Radiology, which sees `tiny`, by each kind of identity; and research, which sees everything."""
    return (
        f'[tenants.radiology]\nmodels = ["tiny"]\ncertificates = ["{certificate("ann")}"]\n'
        + key_table("radiology", RADIOLOGY)
        + '[tenants.radiology.tokens.staff]\nissuer = "hospital"\nclaim = "department"\nvalue = "radiology"\n'
        + f'[tenants.research]\nall_models = true\ncertificates = ["{certificate("rose", "owner")}"]\n'
        + key_table("research", RESEARCH)
        + '[tenants.research.tokens.lead]\nissuer = "hospital"\nsubject = "lead"\n'
        + (issuer if issuer is not None else issuer_table())
    )


def write_tenants(path: Path, text: str, mode: int = 0o600) -> Path:
    """Replace a tenants file, as whoever writes it does."""
    staged = path.with_suffix(".new")
    staged.write_text(text)
    staged.chmod(mode)
    staged.replace(path)
    return path


def bearer(text: str) -> Headers:
    return ((b"authorization", f"Bearer {text}".encode()),)


class Desk:
    """Names whoever asks.

    Attributes:
        now_s: Both clocks.
        jwks: What the issuer's address answers; an error that it raises.
        asked: How often it was asked.
        heard: Set whenever it is.
        answers: While cleared, it does not answer.
    """

    def __init__(self, group: asyncio.TaskGroup, issuer: OidcIssuer, *, now_s: float) -> None:
        self.now_s = now_s
        self.jwks: bytes | Exception = issuer.jwks()
        self.asked = 0
        self.heard = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()
        self.directory = Directory(CLUSTER)

        def clock() -> float:
            return self.now_s

        self.tokens = TokenVerifier(
            spawn=lambda work, name: group.create_task(work, name=name), monotonic=clock, now=clock
        )
        self.credentials = TenantCredentials(CLUSTER, self.directory, self.tokens, now=clock)
        self.use(tenants_text())

    def use(self, text: str) -> None:
        file = TenantsFile.parse(text.encode(), Path("tenants.toml"), CLUSTER)
        fetch: Callable[[], Awaitable[bytes]] = self._fetch
        self.tokens.use({name: (table, fetch, 300.0) for name, table in file.issuers.items()})
        self.directory.use(file)

    async def name(self, headers: Headers = (), pem: bytes | None = None) -> PeerIdentity:
        return await self.credentials.identify(headers, pem)

    async def _fetch(self) -> bytes:
        self.asked += 1
        self.heard.set()
        await self.answers.wait()
        if isinstance(self.jwks, Exception):
            raise self.jwks
        return self.jwks
