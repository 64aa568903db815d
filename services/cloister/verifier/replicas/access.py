"""What the verifiers' user in Redis may touch and run: what they share needs, and nothing else."""

from __future__ import annotations

from typing import Final

COMMANDS: Final = (
    "+evalsha +script|load +acl|whoami +ping +info +time +type +exists +strlen +get +set +del +pexpire +xadd "
    "+xrange +zadd +zrem +zcard +zrange +zremrangebyscore"
)


def rules(cluster: str) -> str:
    """The user's rules in Redis's access list, after its name and password."""
    return f"~{cluster}:verifier:* -@all {COMMANDS}"
