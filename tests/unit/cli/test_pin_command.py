"""What `cloister trust pin` refuses before it asks anybody, and what a weak bundle says whenever it is used."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloister.cli import pin_command
from cloister.client import Pinned, PinnedBy, TrustBundle
from fakes.public_verifier import verifier_visit

Run = Callable[..., tuple[int, str, str]]
ADDRESS = "verifier.example:8443"
SAID = "no evidence says what code its verifier runs"


def bundle(by: PinnedBy, mrenclave: str | None) -> TrustBundle:
    trust = verifier_visit().trust
    pinned = Pinned(
        by=by,
        at=datetime(2026, 11, 25, tzinfo=UTC),
        verifier_mrenclave=mrenclave,
        policy_id="default",
        policy_version=0,
        policy_digest="cd" * 32,
    )
    return TrustBundle(
        cluster=trust.cluster,
        root_ca_pem=trust.root_ca_pem,
        verifier_id=trust.verifier_id,
        verifier_jwks=trust.jwks,
        thumbprints=trust.thumbprints,
        pinned=pinned,
    )


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--mrenclave", "AB" * 32),
        ("--fingerprint", "sha1:ab"),
        ("--fingerprint", "ab" * 31),
        ("--worker", "ab"),
    ],
    ids=["nothing named", "capitals", "another hash", "too short", "no measurement"],
)
def test_what_names_no_verifier_is_wrong_usage(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    code, out, err = run("trust", "pin", ADDRESS, *words, "--out", tmp_path / "trust.json")
    assert (code, out) == (2, "")
    assert err
    assert not (tmp_path / "trust.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("verifier.example", "--out", "trust.json"), 2, "'verifier.example' is no HOST:PORT"),
        ((ADDRESS, "--out", "none/trust.json"), 2, "there is no folder none"),
        ((ADDRESS, "--out", "."), 2, ". is a folder"),
        ((ADDRESS, "--out", "notes.txt"), 1, "notes.txt: not a trust bundle"),
        ((ADDRESS, "--out", "trust.json", "--policy", "notes.txt"), 1, "notes.txt is no policy that loads"),
        ((ADDRESS, "--out", "trust.json", "--policy", "none.toml"), 2, "none.toml cannot be read"),
        ((ADDRESS, "--out", "trust.json", "--anchor-root", "notes.txt"), 1, "notes.txt is no certificate in DER"),
        ((ADDRESS, "--out", "trust.json", "--anchor-root", "none.der"), 2, "none.der cannot be read"),
    ],
)
def test_what_is_wrong_is_named_before_anybody_is_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    ended, out, err = run("trust", "pin", *words, "--mrenclave", "ab" * 32)  # a connection would fail the test
    assert (ended, out) == (code, "")
    assert says in err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_fingerprint_is_taken_as_openssl_prints_it(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def pin(address: str, named: frozenset[str], **_terms: object) -> TrustBundle:
        assert (address, named) == (ADDRESS, frozenset({"ab" * 32}))
        return bundle(PinnedBy.FINGERPRINT, None)

    monkeypatch.setattr(pin_command, "pin_by_fingerprint", pin)
    line = f"sha256 Fingerprint={':'.join(['AB'] * 32)}"
    assert run("trust", "pin", ADDRESS, "--fingerprint", line, "--out", tmp_path / "trust.json")[0] == 0


@pytest.mark.parametrize("words", [("trust", "show"), ("trust", "show", "--json")])
def test_a_bundle_that_rests_on_no_evidence_says_so_once_each_time(
    run: Run, tmp_path: Path, words: tuple[str, ...]
) -> None:
    path = tmp_path / "trust.json"
    path.write_bytes(bundle(PinnedBy.FINGERPRINT, None).to_json())
    code, out, err = run(*words, "--trust", path)
    assert code == 0
    assert " ".join(err.split()).count(SAID) == 1
    assert SAID not in out
    path.write_bytes(bundle(PinnedBy.ATTESTED, "ab" * 32).to_json())
    assert run(*words, "--trust", path)[2] == ""


def test_evidence_in_files_is_judged_by_a_weak_bundle_with_a_warning(run: Run, tmp_path: Path) -> None:
    path, quote = tmp_path / "trust.json", tmp_path / "quote.bin"
    path.write_bytes(bundle(PinnedBy.FINGERPRINT, None).to_json())
    quote.write_bytes(b"no quote")
    _, _, err = run("evidence", "verify", quote, "--collateral", quote, "--trust", path)
    assert " ".join(err.split()).count(SAID) == 1


def test_how_it_was_pinned_is_shown(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    attested = bundle(PinnedBy.ATTESTED, "ab" * 32)
    path.write_bytes(attested.to_json())
    out = " ".join(run("trust", "show", "--trust", path)[1].split())
    assert f"by its evidence, on 2026-11-25, under policy default (cdcdcdcdcdcdcdcd...), as {'ab' * 32}" in out
    path.write_bytes(replace(attested, pinned=None).to_json())
    assert "handed over by whoever founded the mesh" in run("trust", "show", "--trust", path)[1]


class Person(io.StringIO):
    """Somebody at a terminal, who types this."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "pinned"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_at_a_terminal_a_person_compares_the_fingerprint(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: str, pinned: bool
) -> None:
    shown, believed = ["ab" * 32], bundle(PinnedBy.FINGERPRINT, None)

    async def fingerprints(address: str, *, timeout_s: float) -> list[str]:
        assert address == ADDRESS
        return shown

    async def pin(address: str, named: frozenset[str], **_terms: object) -> TrustBundle:
        assert (address, named) == (ADDRESS, frozenset(shown))
        return believed

    monkeypatch.setattr(pin_command, "root_fingerprints", fingerprints)
    monkeypatch.setattr(pin_command, "pin_by_fingerprint", pin)
    monkeypatch.setattr("sys.stdin", Person(typed))
    path = tmp_path / "trust.json"
    code, out, err = run("trust", "pin", ADDRESS, "--out", path)
    assert f"sha256:{shown[0]}" in out
    assert SAID in " ".join(err.split())
    assert (code == 0, path.exists()) == (pinned, pinned)
    if pinned:
        assert TrustBundle.read(path) == believed


def test_a_file_that_is_not_there_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    for option in ("--policy", "--anchor-root"):
        words = ("--mrenclave", "ab" * 32, option, tmp_path / "missing", "--out", tmp_path / "trust.json")
        code, _, err = run("trust", "pin", ADDRESS, *words)
        assert code == 2
        assert "missing" in err


def change(**members: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["pinned"].update(members)


@pytest.mark.parametrize(
    "broken",
    [
        change(by="friends"),
        change(at="yesterday"),
        change(at="2026-11-25T00:00:00"),
        change(more=1),
        change(verifier_mrenclave="AB" * 32),
        change(verifier_mrenclave=None),
        change(by="fingerprint"),
        change(policy={"id": "a", "version": 0}),
        change(policy={"id": "a", "version": True, "digest": "ab" * 32}),
        change(policy={"id": "a", "version": -1, "digest": "ab" * 32}),
        change(policy={"id": "a", "version": 0, "digest": "ab" * 32, "more": 1}),
        lambda content: content.update(pinned="attested"),
        lambda content: content["pinned"].pop("verifier_mrenclave"),
        lambda content: content.update(verifier_policies=[]),
        lambda content: content.update(verifier_policies=["any"]),
    ],
)
def test_a_pin_that_is_not_whole_is_no_trust_bundle(
    run: Run, tmp_path: Path, broken: Callable[[dict[str, Any]], None]
) -> None:
    path = tmp_path / "trust.json"
    content = json.loads(bundle(PinnedBy.ATTESTED, "ab" * 32).to_json())
    broken(content)
    path.write_text(json.dumps(content))
    assert run("trust", "show", "--trust", path)[0] == 1
