"""A client that believes the worker of a fake mesh, and seals to it: one session with one model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cloister.seal import envelope
from cloister.seal.session import ClientSessions, PendingResponse, RecipientKey
from fakes.worker_mesh import WorkerMesh


class Sealing:
    """Seals requests to the first worker that this mesh has attested, for its cluster or another."""

    def __init__(self, mesh: WorkerMesh, model: str, cluster: str = "") -> None:
        claims = mesh.verifier.claims[0]
        self._digest = mesh.provisioner.models[model][0].manifest.digest
        self._recipient = RecipientKey(claims.instance, claims.hpke_suite, claims.hpke_public)
        self._sessions, self._model = ClientSessions(cluster or mesh.pki.cluster), model

    def seal(self, request: bytes) -> tuple[bytes, PendingResponse]:
        """The envelope as it goes to the gateway, and what opens its answer."""
        sealed, pending = self._sessions.seal(
            request,
            model_name=self._model,
            model_version="",
            model_digest=self._digest,
            not_after=datetime.now(UTC) + timedelta(seconds=30),
            recipients=[self._recipient],
        )
        carried = envelope.build_request(sealed, model_name=self._model, instances=[self._recipient.instance])
        return carried.SerializeToString(), pending
