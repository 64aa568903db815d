"""Who asks, where it is not gRPC over mutual TLS that says so: by a client certificate, or by a token in a header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cloister.rpc.identity import PeerIdentity

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""


class Credentials(Protocol):
    """What tells who asks."""

    async def identify(self, headers: Headers, certificate_pem: bytes | None) -> PeerIdentity:
        """Name whoever asks; a tenant that came by a token gets an identity of the role `client`.

        Args:
            headers: Of the request.
            certificate_pem: The client's, as TLS has verified it; None where it showed none.

        Raises:
            Unauthenticated: Nobody, or not any more; or two that are not the same.
        """
        ...
