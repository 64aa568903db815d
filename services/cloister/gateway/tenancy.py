"""All that the tenants file decides, changed together: who is whose tenant, what each may ask, which tokens count."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from cloister.errors import InvalidRequest
from cloister.gateway.credentials import TenantCredentials
from cloister.gateway.directory import Directory
from cloister.gateway.issuer_keys import Spawn
from cloister.gateway.limits import Limits, TenantLimits
from cloister.gateway.portion import part_of
from cloister.gateway.tenant_file import REASON, TenantsFile
from cloister.gateway.tenants import Tenants
from cloister.gateway.token_verifier import TokenVerifier, sources


class Tenancy:
    """The tenants of a gateway, or of one process of it.

    Args:
        cluster: Trust domain.
        usual: What a tenant may have of which the file says nothing else; this process's part of it.
        total_bytes: Most bytes of unanswered requests of all tenants.
        processes: Among how many the limits in the file are divided.
        spawn: Runs a task for as long as the service lives.

    Attributes:
        directory: Whose each identity is.
        tenants: Counts what each has under way.
        tokens: Verifies tokens.
        credentials: Names who asks over HTTPS.
    """

    def __init__(
        self, cluster: str, usual: TenantLimits, total_bytes: int, *, processes: int = 1, spawn: Spawn
    ) -> None:
        self.directory = Directory(cluster)
        self.tenants = Tenants(Limits(usual), total_bytes)
        self.tokens = TokenVerifier(spawn=spawn, monotonic=time.monotonic, now=time.time)
        self.credentials = TenantCredentials(cluster, self.directory, self.tokens, now=time.time)
        self._usual = usual
        self._processes = processes

    async def use(self, file: TenantsFile, folder: Path) -> None:
        """Go by a file from now on, for new calls and for streams that are open.

        Args:
            file: What it says.
            folder: From which paths in it count.

        Raises:
            InvalidRequest: A limit makes no sense, or an issuer's file of keys (`tenants.invalid`, `jwks.invalid`).
            NotReady: A file that it names cannot be used.
        """
        tables = {name: entry.limits for name, entry in file.tenants.items()}
        try:
            Limits(self._usual, tables)
        except ValueError as error:
            raise InvalidRequest(f"tenants.{error}", reason=REASON) from error
        limits = Limits(self._usual, {name: part_of(table, self._processes) for name, table in tables.items()})
        found = await asyncio.to_thread(sources, file.issuers, folder)
        self.tokens.use(found)
        self.tenants.use(limits)
        self.directory.use(file)
