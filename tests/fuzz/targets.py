"""All targets, by the name they have on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuzz.access_tokens import AccessTokens
from fuzz.certificates import Certificates
from fuzz.claims import ClaimsMaps
from fuzz.collateral import Collaterals
from fuzz.envelopes import Envelopes
from fuzz.job_statements import JobStatements
from fuzz.jobs import Jobs
from fuzz.quotes import Quotes
from fuzz.requests import Requests
from fuzz.target import Target
from fuzz.tokens import Tokens

TARGETS: Mapping[str, Callable[[], Target]] = {
    kind.name: kind
    for kind in (
        Quotes,
        Collaterals,
        ClaimsMaps,
        Tokens,
        AccessTokens,
        Certificates,
        Envelopes,
        JobStatements,
        Jobs,
        Requests,
    )
}
