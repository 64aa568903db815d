"""Collateral of a simulated platform: chains, lists and documents changed, and documents changed and then signed."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.collateral import Collateral
from cloister.appraisal.verify import verify_quote
from cloister_simulator.platform import Platform
from cloister_simulator.recipe import Window
from fakes.sim import simulated_platform
from fuzz.mutation import (
    changed_bytes,
    changed_der,
    changed_pem,
    changed_signature,
    changed_value,
    first_signed_again,
    signed_again,
)
from fuzz.quotes import NOW
from fuzz.target import Violation

_DOCUMENTS = ("tcb_info", "qe_identity")
_LISTS = ("root_ca_crl", "pck_crl")


class Collaterals:
    """`Collateral.parse`, `verified`, and a good quote judged by what came of it."""

    name = "collateral"

    def __init__(self) -> None:
        self.platform = simulated_platform(NOW)
        self._anchor = TrustAnchor("simulator", self.platform.root_der())
        self._quote = self.platform.quote(bytes(64))
        older = self.platform.copy()
        older.window = Window(issued_at=NOW.replace(month=10), next_update=NOW.replace(day=20))
        withdrawn = self.platform.copy()
        withdrawn.revoked = {"pck"}
        self.seeds = [one.collateral() for one in (self.platform, withdrawn)]
        self._others = [json.loads(one.collateral()) for one in (older, withdrawn, Platform.generate(NOW))]
        seeds = [Collateral.parse(raw).verified(self._anchor, NOW) for raw in self.seeds]
        self._lists = {each for seed in seeds for each in (_said(seed.root_crl), _said(seed.pck_crl))}
        # What was ever signed. A changed document or list that is signed on purpose joins them.
        self._signed_lists: set[bytes] = set()
        self.signed = {json.loads(raw)[name] for raw in self.seeds for name in _DOCUMENTS}

    def judge(self, raw: bytes) -> None:
        endorsed = Collateral.parse(raw).verified(self._anchor, NOW)
        found = endorsed.collateral
        if not {found.tcb_info_document, found.qe_identity_document} <= self.signed:
            raise Violation("a document was accepted that nobody signed")
        for raw_list, read in ((found.root_ca_crl, endorsed.root_crl), (found.pck_crl, endorsed.pck_crl)):
            if raw_list not in self._signed_lists and _said(read) not in self._lists:
                raise Violation("a revocation list was accepted that nobody signed")
        if not endorsed.valid_from <= NOW < endorsed.valid_until:
            raise Violation("collateral was accepted outside its own dates")
        verify_quote(self._quote, endorsed, self._anchor, NOW)

    def mutated(self, rng: Random, raw: bytes) -> bytes:
        whole = json.loads(raw)
        if rng.random() < 0.05:
            return changed_bytes(rng, raw)
        if rng.random() < 0.3:
            return self._signed(rng)
        name = rng.choice(list(whole))
        if rng.random() < 0.2:
            whole[name] = rng.choice(self._others).get(name, "")
        else:
            whole[name] = self._changed(rng, name, whole[name])
        return _written(rng, whole)

    def _changed(self, rng: Random, name: str, value: Any) -> Any:
        if not isinstance(value, str) or not value.isascii():
            return changed_value(rng, [value])
        if name.endswith("chain") and rng.random() < 0.4:
            return first_signed_again(rng, value.encode(), self.platform.keys.root)[0].decode("latin-1")
        if name.endswith("chain"):
            return changed_pem(rng, value.encode()).decode("latin-1")
        if name.endswith("signature"):
            return _hexed(rng, value, changed_signature)
        if name in _LISTS and rng.random() < 0.6:
            key = self.platform.keys.root if name == "root_ca_crl" else self.platform.keys.platform_ca
            made = signed_again(rng, bytes.fromhex(value), key)
            self._signed_lists.add(made)
            return made.hex()
        if name in _LISTS:
            return _hexed(rng, value, changed_der)
        return _document(rng, value)

    def _signed(self, rng: Random) -> bytes:
        """Collateral whose documents Intel signed after they were changed: how deep a reader of them stands."""
        one, other = (lambda text: self._said(_document(rng, text))), self._said
        alter = (
            {"alter_tcb_info": one, "alter_qe_identity": other}
            if rng.random() < 0.6
            else {
                "alter_tcb_info": other,
                "alter_qe_identity": one,
            }
        )
        return self.platform.collateral(**alter)

    def _said(self, text: str) -> str:
        text = text.encode("utf-8", "replace").decode()
        self.signed.add(text)
        return text


def _said(found: Any) -> tuple[object, ...]:
    return found.issuer, found.serials, found.this_update, found.next_update


def _hexed(rng: Random, value: str, change: Any) -> str:
    if rng.random() < 0.05:
        return changed_bytes(rng, value.encode()).decode("latin-1")
    return change(rng, bytes.fromhex(value)).hex()


def _document(rng: Random, text: str) -> str:
    """A signed document with one value changed, written again; or one character."""
    value = json.loads(text)
    match rng.randrange(8):
        case 0:
            return changed_bytes(rng, text.encode()).decode("latin-1")
        case 1:
            return json.dumps(value, indent=rng.choice((None, 1)))
        case 2:
            return text.replace(
                rng.choice(('"', ":", "{", "[", ",")), rng.choice(('"', "{", "[[", "é")), rng.randrange(1, 4)
            )
        case 3:
            return text[:-1] + ',"x":' + rng.choice(("[" * 3000, "1e5", "NaN", "9" * 5000, '"\\ud800"', "{}" * 2)) + "}"
        case _:
            return json.dumps(changed_value(rng, value), separators=(",", ":"))


def _written(rng: Random, whole: dict[str, Any]) -> bytes:
    text = json.dumps(whole, ensure_ascii=rng.random() < 0.8).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        name = rng.choice(list(whole))
        return text[:-1] + b"," + json.dumps({name: whole[name]}).encode()[1:]
    return text
