"""Whether a small file holds something else than it did: by its content, and by nothing that is said about it.

Gramine shows every file of the host with mtime 0, an inode number made of its path, and the size that it had when it
was first looked at: what `stat` tells there does not change with the file.
"""

from __future__ import annotations

from collections.abc import Callable


class WatchedFile:
    """One file. Blocking.

    Args:
        read: Reads it, as `rpc.files` does: once, within a bound, without waiting.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._seen: bytes | None = None

    def changed(self) -> bytes | None:
        """The content, the first time and whenever it is another; None while it is the same. Raises what `read` does.

        What is returned counts as seen.
        """
        content = self._read()
        if content == self._seen:
            return None
        self._seen = content
        return content

    def unread(self) -> None:
        """What was last returned could not be used: return it once more."""
        self._seen = None
