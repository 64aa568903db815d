"""Sealed requests and answers, between a data owner and the enclaves it verified (design: sealed requests).

A session is a secret that one client shares with one worker. It reaches the worker by HPKE in an *opening*, which rides
along with requests until the worker has answered once; from then on a request costs symmetric operations only. Each
request is encrypted once, under a key of its own, and that key is wrapped for every worker that may answer. What the
keys are and why no nonce repeats: `session_keys`. What of a message is authenticated (all of it): `framing`.

Whatever is wrong while opening is SealBroken, with one message. Other errors say only what the gateway may know.
Neither half is for use from several threads at once.
"""

from cloister.seal.session_client import ClientSessions, PendingResponse, RecipientKey
from cloister.seal.session_keys import MAX_LIFE_MS, MAX_RECIPIENTS
from cloister.seal.session_worker import OpenedRequest, WorkerSessions

__all__ = [
    "MAX_LIFE_MS",
    "MAX_RECIPIENTS",
    "ClientSessions",
    "OpenedRequest",
    "PendingResponse",
    "RecipientKey",
    "WorkerSessions",
]
