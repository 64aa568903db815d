"""Sealed jobs: requests that outlive whoever could have answered them when they were sealed (decision 0046).

A job is sealed to the epoch key of a model, which the provisioner hands to each worker that satisfies the model's
policy, and not to workers by name. A client has one session for each epoch key: a secret that reaches the workers by
HPKE in an *opening*, which travels with every job, since any worker may open any of them, at any time and more than
once. Each job has keys of its own, wrapped under that secret. What the keys are and why no nonce repeats: `job_keys`.
What of a message is authenticated (all of it): `framing`.

Nobody refuses a replay: a job may be computed twice, and each answer has keys of its own. The answer opens with the
ticket of its job alone, so whoever moves it to another job moves it where it does not open.

Whatever is wrong while opening is SealBroken, with one message. Other errors say only what a gateway may know.
"""

from cloister.seal.job_client import JobKey, JobSealer
from cloister.seal.job_ticket import MAX_KNOWN, JobTicket
from cloister.seal.job_worker import JobOpener, OpenedJob

__all__ = ["MAX_KNOWN", "JobKey", "JobOpener", "JobSealer", "JobTicket", "OpenedJob"]
