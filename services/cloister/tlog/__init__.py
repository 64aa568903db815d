"""Transparency logs, as auditors and witnesses elsewhere know them: pure, bytes in and values out.

Merkle trees and proofs are those of RFC 6962; signed notes, checkpoints and cosignatures those of C2SP (signed-note,
tlog-checkpoint, tlog-cosignature), so that stock tools read what Cloister writes.
"""
