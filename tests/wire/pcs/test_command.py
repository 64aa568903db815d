"""`cloister collateral fetch` against a service on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cloister.cli import app
from cloister_simulator.platform import Platform
from fakes import corpus, pcs_server
from fakes.held_collateral import other_family, quote_of
from fakes.pcs_server import PcsServer, serving
from fakes.pki import MeshPki
from fakes.running_services import private_file

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def command(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cloister", "collateral", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            app.main()
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


@pytest.fixture
def folder(tmp_path: Path, platform: Platform) -> Path:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    private_file(tmp_path / "key.pem", pem)
    (tmp_path / "root.der").write_bytes(platform.root_der())
    (tmp_path / "quote.bin").write_bytes(quote_of(platform))
    return tmp_path


def test_a_bundle_for_a_quote_and_a_family(
    run: Run, folder: Path, platform: Platform, tls: MeshPki, ca_file: Path
) -> None:
    other = other_family(platform)
    out = folder / "all.bundle"
    with serving(PcsServer([platform.collateral(), other.collateral()], cache=True), tls) as service:
        code, _, err = run(
            *("fetch", "--url", service.url, "--ca-file", ca_file, "--anchor-root", folder / "root.der"),
            *("--for", folder / "quote.bin", "--fmspc", other.fmspc.hex(), "--key", folder / "key.pem", "-o", out),
        )
    assert (code, err) == (0, "")
    found = json.loads(run("show", out, "--anchor-root", folder / "root.der", "--json")[1])
    assert {one["fmspc"] for one in found["families"]} == {platform.fmspc.hex(), other.fmspc.hex()}
    assert len(found["signers"]) == 1


def test_one_family_without_a_key_is_todays_form(run: Run, folder: Path, platform: Platform) -> None:
    out = folder / "collateral.json"
    with serving(PcsServer([platform.collateral()])) as service:
        words = ("--url", service.url, "--root-crl-url", service.root_crl_url, "--anchor-root", folder / "root.der")
        assert run("fetch", *words, "--for", folder / "quote.bin", "-o", out)[0] == 0
    assert json.loads(out.read_bytes())["tcb_info"].startswith("{")


@pytest.mark.attack("B16")
@pytest.mark.parametrize(
    ("misbehaves", "code", "said"),
    [
        (pcs_server.web_page, 1, "web page"),
        (pcs_server.answers(404), 1, "--for QUOTE"),
        (pcs_server.redirects("http://127.0.0.1:1/"), 1, "points elsewhere"),
        (pcs_server.answers(503, **{"Retry-After": "900"}), 4, "try again later"),
        (None, 3, "--anchor-root"),
    ],
    ids=["web page", "unknown", "redirect", "busy", "not under Intel's root"],
)
def test_nothing_is_written_when_something_is_wrong(
    run: Run, folder: Path, platform: Platform, misbehaves: pcs_server.Misbehaviour | None, code: int, said: str
) -> None:
    out = folder / "collateral.json"
    with serving(PcsServer([platform.collateral()], cache=True, misbehaves=misbehaves)) as service:
        ended, _, err = run("fetch", "--url", service.url, "--for", folder / "quote.bin", "-o", out)
    assert (ended, said in err, out.exists()) == (code, True, False), err


@pytest.mark.skipif(not corpus.present(), reason=corpus.ABSENT)
def test_what_was_recorded_is_judged_at_its_time(run: Run, folder: Path) -> None:
    one, out = corpus.evaluation("tdx4-utd-01:valid"), folder / "recorded.json"
    with serving(PcsServer([one.collateral.read_bytes()], cache=True)) as service:
        words = ("fetch", "--url", service.url, "--for", one.quote, "-o", out)
        assert run(*words)[0] == 3  # it has expired
        assert not out.exists()
        assert run(*words, "--at", one.now.isoformat())[0] == 0
    assert run("show", out, "--at", one.now.isoformat())[0] == 0
    code, said, _ = run("show", out, "--json")
    (family,) = json.loads(said)["families"]
    assert (code, family["tee"], family["fmspc"], family["ca"]) == (3, "tdx", "b0c06f000000", "platform")
