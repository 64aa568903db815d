"""Proofs over a Merkle tree (RFC 6962 section 2.1), made from its stored nodes, and checked.

Making one takes a lookup of *perfect* subtrees: `subtree(level, index)` is the hash over the 2^level leaves from number
`index << level` on. A log that keeps one hash for each perfect subtree that it has filled makes every proof, of its
present size and of each before it, from at most two such hashes for each level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloister.errors import LogBroken, SealBroken
from cloister.tlog.merkle import HASH_BYTES, node_hash, root, root_of_path

Subtree = Callable[[int, int], bytes]
"""Level and index to hash; raises KeyError or an error of its own where the log has no such subtree."""


def head(size: int, subtree: Subtree) -> bytes:
    """The root over the first `size` leaves."""
    return _hash(0, size, subtree) if size else root([])


def inclusion(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Prove that a leaf is number `index`, from 0, of the first `size`.

    Raises:
        ValueError: There is no such leaf among them.
    """
    if not 0 <= index < size:
        raise ValueError("no such leaf in a tree of this size")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_hash(middle, end, subtree))
            end = middle
        else:
            path.append(_hash(start, middle, subtree))
            start = middle
    return path[::-1]


def consistency(old_size: int, new_size: int, subtree: Subtree) -> list[bytes]:
    """Prove that the first `new_size` leaves begin with the first `old_size` (RFC 6962 section 2.1.2).

    Raises:
        ValueError: The old tree is larger than the new one.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError("a tree does not extend a larger one")
    if old_size in (0, new_size):
        return []
    path, start, end, whole = [], 0, new_size, True
    while end != old_size:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(_hash(middle, end, subtree))
            end = middle
        else:
            path.append(_hash(start, middle, subtree))
            start, whole = middle, False
    if not whole:
        path.append(_hash(start, end, subtree))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> None:
    """Check that a leaf hash is number `index` of the `size` under a root.

    Raises:
        LogBroken: It is not (`proof.invalid`).
    """
    try:
        holds = len(leaf) == HASH_BYTES and root_of_path(leaf, index, size, path) == expected_root
    except SealBroken:
        holds = False
    if not holds:
        raise LogBroken("the proof that the line is in the log does not hold", reason="proof.invalid")


def verify_consistency(old_size: int, new_size: int, path: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that one head extends another (RFC 9162 section 2.1.4.2); anything extends the empty tree.

    Raises:
        LogBroken: It does not (`proof.invalid`).
    """
    if not 0 <= old_size <= new_size or any(len(each) != HASH_BYTES for each in (old_root, new_root, *path)):
        raise _inconsistent()
    if old_size == 0 and old_root != root([]):
        raise _inconsistent()
    if old_size in (0, new_size):
        if path or (old_size == new_size and old_root != new_root):
            raise _inconsistent()
        return
    if not path or _roots_of(old_size, new_size, path, old_root) != (old_root, new_root):
        raise _inconsistent()


def _roots_of(old_size: int, new_size: int, path: Sequence[bytes], old_root: bytes) -> tuple[bytes, bytes]:
    """The two roots that a consistency proof leads to."""
    node, last = old_size - 1, new_size - 1
    siblings = list(path)
    if old_size & node == 0:  # a full tree, whose root the proof leaves out
        siblings.insert(0, old_root)
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = siblings[0]
    for sibling in siblings[1:]:
        if last == 0:
            raise _inconsistent()
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise _inconsistent()
    return old, new


def _hash(start: int, end: int, subtree: Subtree) -> bytes:
    """The hash over the leaves from `start` to before `end`, which begin where a subtree of their size may begin."""
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return subtree(level, start >> level)
    middle = start + _split(size)
    return node_hash(_hash(start, middle, subtree), _hash(middle, end, subtree))


def _split(size: int) -> int:
    """The largest power of two below a size of 2 or more."""
    return 1 << ((size - 1).bit_length() - 1)


def _inconsistent() -> LogBroken:
    return LogBroken("the proof that the log has only grown does not hold", reason="proof.invalid")
