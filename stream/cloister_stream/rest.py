"""A cluster's REST interface, over TLS 1.3 with the certificate that its key store holds."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from cloister.errors import InvalidRequest, NotFound, Unavailable
from cloister.rpc.files import read_private
from cloister_stream.cluster_settings import RestAccess

TIMEOUT_S: Final = 30.0
ENDED: Final = frozenset({"FINISHED", "FAILED", "CANCELED"})


class Rest:
    """Calls of one cluster; use it as a context manager."""

    def __init__(self, access: RestAccess) -> None:
        context = tls_context(access.store, access.password)
        self._client = httpx.Client(
            base_url=f"https://{access.address}", verify=context, timeout=TIMEOUT_S, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        """What `path` answers.

        Raises:
            Unavailable: Nobody answers there, or not with this certificate.
            NotFound: It knows nothing of that name.
        """
        return self._asked("GET", path)

    def cancel(self, job_id: str) -> None:
        """Ask for a job to be cancelled; its last checkpoint stays."""
        self._asked("PATCH", f"/jobs/{job_id}?mode=cancel")

    def task_managers(self) -> int:
        """How many are there."""
        return int(self.get("/overview")["taskmanagers"])

    def running(self, name: str) -> list[str]:
        """Ids of the jobs of this name that have not ended."""
        jobs = self.get("/jobs/overview")["jobs"]
        return [job["jid"] for job in jobs if job["name"] == name and job["state"] not in ENDED]

    def state(self, job_id: str) -> str:
        """In Flink's words: RUNNING, RESTARTING, FINISHED, ..."""
        return str(self.get(f"/jobs/{job_id}")["state"])

    def checkpoints(self, job_id: str) -> int:
        """How many of a job are complete."""
        return int(self.get(f"/jobs/{job_id}/checkpoints")["counts"]["completed"])

    def _asked(self, method: str, path: str) -> Any:
        try:
            answer = self._client.request(method, path)
        except httpx.HTTPError as error:
            raise Unavailable(f"Flink's REST interface does not answer: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise NotFound(f"Flink knows no {path}")
        if answer.is_error:
            raise Unavailable(f"Flink's REST interface answered {answer.status_code}")
        return answer.json()


def tls_context(store: Path, password: str) -> ssl.SSLContext:
    """For a client that shows the certificate of a key store, and believes that one only.

    Raises:
        NotReady: The store lies open to others, or is not there.
        InvalidRequest: It is no key store, or has another password.
    """
    try:
        key, certificate, _ = load_key_and_certificates(read_private(store), password.encode())
    except ValueError as error:
        raise InvalidRequest(f"{store} is no key store with this password") from error
    if key is None or certificate is None:
        raise InvalidRequest(f"{store} holds no key")
    pem = certificate.public_bytes(Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=pem.decode())
    with _for_a_moment(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem) as path:
        context.load_cert_chain(path)
    return context


@contextmanager
def _for_a_moment(content: bytes) -> Iterator[str]:
    """A file for our eyes only: `ssl` takes keys from files alone."""
    descriptor, path = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        yield path
    finally:
        Path(path).unlink()
