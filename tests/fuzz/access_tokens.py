"""Tokens of tenants' issuers: respelt, forged, and signed after they were changed."""

from __future__ import annotations

import json
import warnings
from typing import Any

from joserfc import jws
from joserfc.errors import SecurityWarning

from cloister.gateway.access_token import check_terms, read, verify_signature
from cloister.gateway.jwks import parse_jwks
from fakes.oidc_issuer import AUDIENCE, OidcIssuer, jwks_of
from fuzz.target import Violation
from fuzz.tokens import Tokens, decoded

NOW_S = 1_900_000_000


class AccessTokens(Tokens):
    """What a gateway does with a token over HTTPS, but for whose it is."""

    name = "access-token"

    def __init__(self) -> None:
        issuers = [OidcIssuer("ES256", "k1"), OidcIssuer("EdDSA", "k2"), OidcIssuer("RS256", "k3")]
        self._signers: list[Any] = [*issuers]
        self._stranger: Any = OidcIssuer("ES256", "k1")
        self._public = parse_jwks(jwks_of(*issuers))
        self.seeds = [each.token(NOW_S, department=["a", "b"], nbf=NOW_S).encode() for each in issuers]
        self._signed = {raw.rpartition(b".")[0] for raw in self.seeds}

    def judge(self, raw: bytes) -> None:
        text = raw.decode("latin-1")
        token = read(text)
        key = self._public.get(token.kid)
        if key is None:
            return
        verify_signature(text, token.algorithm, key)
        check_terms(token, audience=AUDIENCE, max_life_s=600, now_s=NOW_S)
        if raw.rpartition(b".")[0] not in self._signed:
            raise Violation("a token was accepted that nobody signed")
        claims = json.loads(decoded(raw.split(b".")[1]))
        said = (claims["iss"], claims["sub"], claims["exp"], claims["aud"])
        if said not in (
            (token.issuer, token.subject, token.expires_at, AUDIENCE),
            (token.issuer, token.subject, token.expires_at, [AUDIENCE]),
        ):
            raise Violation("a token was read as something else than it says")

    def _sign(self, key: Any, payload: bytes, *, believed: bool) -> bytes:
        header = {"alg": key.algorithm, "kid": key.kid, "typ": "at+jwt"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # as in `fakes.oidc_issuer`
            token = jws.serialize_compact(header, payload, key.key, algorithms=[key.algorithm]).encode()
        if believed:
            self._signed.add(token.rpartition(b".")[0])
        return token
