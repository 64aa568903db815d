"""What the gateway's user in Redis may touch and run: what jobs need, and nothing else.

A list of single commands, since Redis's categories hold more than we use: nobody who has this password can read a
configuration, list keys, or empty a database. `+acl|dryrun` is for the check at the start, `+command` and
`+cluster|slots` for a Redis Cluster.
"""

from __future__ import annotations

from typing import Final

_SCRIPTS: Final = "evalsha eval"
_CALLED: Final = "ping info del mget xread acl|whoami acl|dryrun command cluster|slots"
_IN_SCRIPTS: Final = (
    "type del get set strlen pexpire time hset hget hgetall hdel hincrby hlen hstrlen zadd zrem zrange zcard zscore "
    "rpush lpop lrem lindex lpos xadd xack xdel xlen xtrim xrange xclaim xautoclaim xreadgroup xpending xgroup|create "
    "xinfo|stream"
)
COMMANDS: Final = " ".join(f"+{each}" for each in f"{_SCRIPTS} {_CALLED} {_IN_SCRIPTS}".split())


def rules(cluster: str) -> str:
    """The user's rules in Redis's access list, after its name and password."""
    return f"~{cluster}:jobs:* -@all {COMMANDS}"
