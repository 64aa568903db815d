"""Merkle trees as in RFC 6962 section 2.1, over SHA-256: roots, audit paths, and the roots that these lead to.

Leaves and nodes are hashed under different prefixes, so no leaf can pass for a node. Functions take leaf *hashes*.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from cloister.errors import SealBroken

HASH_BYTES: Final = 32


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the tree head of these leaf hashes; of none, the hash of nothing."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    return levels(leaves)[-1][0]


def root_and_paths(leaves: Sequence[bytes], step: int = 1) -> tuple[bytes, list[list[bytes]]]:
    """Return the tree head of one or more leaf hashes, and the audit path of every `step`-th from the first on."""
    tree = levels(leaves)
    return tree[-1][0], [path(tree, index) for index in range(0, len(leaves), step)]


def root_of_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the tree head that an audit path leads to (RFC 9162 section 2.1.3.2).

    Raises:
        SealBroken: No such leaf in a tree of this size, or a path of another length than it must have.
    """
    if not 0 <= index < size or any(len(sibling) != HASH_BYTES for sibling in path):
        raise SealBroken
    node, last = leaf, size - 1
    for sibling in path:
        if last == 0:
            raise SealBroken
        if index & 1 or index == last:
            node = node_hash(sibling, node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    if last:
        raise SealBroken
    return node


def levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return the tree of one or more leaf hashes: these first, the root last."""
    tree = [list(leaves)]
    while len(tree[-1]) > 1:
        below = tree[-1]
        level = [node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        tree.append(level + below[len(level) * 2 :])  # a node without a sibling moves up as it is
    return tree


def path(tree: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    """Return the audit path of leaf `index` in what `levels` made.

    Raises:
        IndexError: There is no such leaf.
    """
    if not 0 <= index < len(tree[0]):
        raise IndexError("no such leaf")
    siblings = []
    for level in tree[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            siblings.append(level[sibling])
        index >>= 1
    return siblings


class Frontier:
    """The tree head of leaf hashes that come one by one, with no more than a node kept for each level.

    Args:
        size: Leaves so far.
        peaks: The roots of the perfect subtrees that these make, the largest first.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)

    def add(self, leaf: bytes) -> list[bytes]:
        """Add the next leaf; returns the roots of all perfect subtrees that end with it, itself first."""
        filled, full = [leaf], self.size
        while full & 1:
            filled.append(node_hash(self._peaks.pop(), filled[-1]))
            full >>= 1
        self._peaks.append(filled[-1])
        self.size += 1
        return filled

    def copy(self) -> Frontier:
        """Another one that grows on its own."""
        return Frontier(self.size, self._peaks)

    def root(self) -> bytes:
        """Return the tree head; of no leaves, the hash of nothing."""
        if not self._peaks:
            return root([])
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = node_hash(peak, node)
        return node
