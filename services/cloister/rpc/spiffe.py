"""SPIFFE IDs of the mesh: `spiffe://<cluster>/<role>/<name>`.

The cluster is the trust domain. The role says what a peer may call, the name which of them it is. Pure.
Source: SPIFFE-ID standard, sections 2.1 and 2.2, narrowed to three parts in lower case.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cloister.errors import InvalidRequest

WORKER = "worker"
# `enrol` lets a starting worker ask for a challenge before it has an identity of its own; it may do nothing else.
# `console` shows its certificate to browsers, `redis` to those who keep something there; both may call no more than
# everybody.
ROLES = frozenset(
    {
        *("verifier", "provisioner", "gateway", "console", "redis", WORKER, "enrol"),
        *("owner", "client", "operator", "auditor"),
    }
)

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_CLUSTER = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_MAX_CLUSTER = 128


class SpiffeId(NamedTuple):
    """One identity, taken apart."""

    cluster: str
    role: str
    name: str

    def __str__(self) -> str:
        return f"spiffe://{self.cluster}/{self.role}/{self.name}"

    @classmethod
    def parse(cls, uri: str) -> SpiffeId:
        """Take `uri` apart.

        Raises:
            InvalidRequest: Not exactly `spiffe://<cluster>/<role>/<name>` with a role we know.
        """
        scheme, _, rest = uri.partition("://")
        parts = rest.split("/")
        if scheme != "spiffe" or len(parts) != 3:
            raise InvalidRequest("not a SPIFFE id of the form spiffe://<cluster>/<role>/<name>")
        return spiffe_id(*parts)


def spiffe_id(cluster: str, role: str, name: str) -> SpiffeId:
    """Put an identity together.

    Raises:
        InvalidRequest: A part has characters that it may not have, or the role is unknown.
    """
    check_cluster(cluster)
    if role not in ROLES:
        raise InvalidRequest("the role in a SPIFFE id is not one of the mesh")
    if not _NAME.fullmatch(name) or ".." in name:
        raise InvalidRequest("the name in a SPIFFE id is 1 to 63 of a-z 0-9 . _ - and begins with a letter or digit")
    return SpiffeId(cluster, role, name)


def check_cluster(cluster: str) -> None:
    """Refuse a cluster name that is not a lower-case DNS name of at least two labels.

    Two labels at least, because name constraints on URIs apply to fully qualified hosts only (RFC 5280, 4.2.1.10).

    Raises:
        InvalidRequest: It is something else.
    """
    if len(cluster) > _MAX_CLUSTER or not _CLUSTER.fullmatch(cluster):
        raise InvalidRequest("a cluster is named like a DNS domain in lower case, such as demo.cloister.internal")


def server_name(cluster: str, role: str, instance: str = "") -> str:
    """DNS name in a service's certificate: `<role>.<cluster>`, or `<instance>.worker.<cluster>` for one worker."""
    name = f"{role}.{cluster}"
    return f"{instance}.{name}" if instance else name
