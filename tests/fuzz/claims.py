"""Claims of a worker, changed as CBOR, under a quote that is over them as they were."""

from __future__ import annotations

from random import Random

from cloister.appraisal.appraise import Expected, verify_binding
from cloister.appraisal.quote import parse_quote
from cloister.errors import EvidenceRejected
from cloister.evidence.binding import decode, encode
from fakes.sim import good_evidence, simulated_platform
from fuzz.mutation import changed_cbor
from fuzz.quotes import NOW
from fuzz.target import Violation


class ClaimsMaps:
    """`binding.decode`, and `verify_binding` for quotes over the seeds."""

    name = "claims"

    def __init__(self) -> None:
        platform = simulated_platform(NOW)
        made = [good_evidence(platform=platform, hpke_suite=suite) for suite in ("x25519", "xwing", "x25519")]
        self.seeds = [each.claims_bytes for each in made]
        self._quotes = [parse_quote(each.quote) for each in made]

    def judge(self, raw: bytes) -> None:
        claims = decode(raw)
        if encode(claims) != raw:
            raise Violation("claims have more than one form")
        for quote, seed in zip(self._quotes, self.seeds, strict=True):
            try:
                verify_binding(quote, raw, Expected())
            except EvidenceRejected:
                if raw == seed:
                    raise Violation("claims were refused that the quote is over") from None
            else:
                if raw != seed:
                    raise Violation("claims were accepted that the quote is not over")

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        return changed_cbor(rng, raw)
