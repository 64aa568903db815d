"""`cloister collateral` without a network: sign, show, import."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cloister.appraisal.anchors import TrustAnchor
from cloister.appraisal.quote import parse_quote
from cloister.appraisal.verify import verify_quote
from cloister.verifier.collateral import CollateralStore
from cloister.verifier.collateral_files import CollateralInFile
from cloister.verifier.collateral_memory import FILE_NAME, FileMemory
from cloister_simulator.platform import Platform
from fakes.held_collateral import other_family, quote_of
from fakes.running_services import private_file
from fakes.sim import simulated_platform

Run = Callable[..., tuple[int, str, str]]
HOUR = timedelta(hours=1)


@dataclass
class Keeper:
    """Files of a person who runs a verifier, whose settings name two signers of a bundle, one of whom is enough."""

    folder: Path
    platform: Platform = field(default_factory=simulated_platform)
    signers: list[Ed25519PrivateKey] = field(default_factory=lambda: [Ed25519PrivateKey.generate() for _ in range(2)])

    def __post_init__(self) -> None:
        (self.folder / "root.der").write_bytes(self.platform.root_der())
        for n, key in enumerate(self.signers):
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            private_file(self.folder / f"{n}.pem", pem)
        self.settings(signed=True)

    @property
    def names(self) -> list[str]:
        return [key.public_key().public_bytes_raw().hex() for key in self.signers]

    def settings(self, *, signed: bool, threshold: int = 1) -> None:
        lines = {
            "cluster": "demo.cloister.internal",
            "listen": "127.0.0.1:0",
            "ca_certificate": "ca.pem",
            "ca_private_key": "ca.key",
            "signing_key": "ear.key",
            "collateral": "placed/collateral",
            "anchor_root": "root.der",
            "state_dir": "state",
        } | ({"collateral_signers": self.names, "collateral_threshold": threshold} if signed else {})
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())
        tls = '[tls]\ncertificate = "a"\nprivate_key = "b"\ntrust_roots = "c"\n'
        (self.folder / "settings.toml").write_text(text + tls)
        (self.folder / "placed").mkdir(exist_ok=True)
        (self.folder / "state").mkdir(exist_ok=True)

    def file(self, platform: Platform | None = None, name: str = "one.json") -> Path:
        path = self.folder / name
        path.write_bytes((platform or self.platform).collateral())
        return path

    @property
    def placed(self) -> Path:
        return self.folder / "placed" / "collateral"

    def key(self, n: int = 0) -> list[str]:
        return ["--key", str(self.folder / f"{n}.pem")]

    @property
    def root(self) -> list[str]:
        return ["--anchor-root", str(self.folder / "root.der")]

    @property
    def verifier(self) -> list[str]:
        return ["--settings", str(self.folder / "settings.toml")]

    def store(self) -> CollateralStore:
        """What the verifier of these settings holds."""
        anchor = TrustAnchor("simulated", self.platform.root_der())
        watched = CollateralInFile(self.placed, signers=frozenset(self.names))
        return CollateralStore(anchor, FileMemory(self.folder / "state" / FILE_NAME), watched=watched)


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path)


def test_collateral_is_signed_shown_imported_and_used(run: Run, keeper: Keeper) -> None:
    other = other_family(keeper.platform)
    files, out = (keeper.file(), keeper.file(other, "two.json")), keeper.folder / "all.bundle"
    assert run("collateral", "sign", *files, "-o", out, *keeper.key(), *keeper.root, "--version", "5")[0] == 0
    code, said, _ = run("collateral", "show", out, *keeper.root)
    assert code == 0
    for word in ("version 5", keeper.names[0], keeper.platform.fmspc.hex(), other.fmspc.hex(), "platform", "21"):
        assert word in said
    code, said, _ = run("collateral", "import", out, *keeper.verifier)
    assert (code, said.count("sgx ")) == (0, 2)
    assert keeper.placed.read_bytes() == out.read_bytes()
    store = keeper.store()
    for platform in (keeper.platform, other):
        assert store.current(quote_of(platform), datetime.now(UTC)).verified.tcb_info.fmspc == platform.fmspc


def test_show_tells_a_script_all_of_it(run: Run, keeper: Keeper) -> None:
    code, said, _ = run("collateral", "show", keeper.file(), *keeper.root, "--json")
    assert code == 0
    found = json.loads(said)
    (family,) = found["families"]
    assert (found["version"], found["signers"]) == (None, [])
    assert (family["tee"], family["ca"], family["tcb_evaluation"], family["reason"]) == ("sgx", "platform", 21, None)
    until = min(family[part]["next_update"] for part in ("tcb_info", "qe_identity", "pck_crl", "root_crl"))
    assert family["valid_until"] == until


@pytest.mark.attack("B04")
def test_show_says_what_is_not_genuine_now(run: Run, keeper: Keeper) -> None:
    assert run("collateral", "show", keeper.file(), *keeper.root)[0] == 0
    assert run("collateral", "show", keeper.file())[0] == 3  # under Intel's root
    keeper.platform.reissue(datetime.now(UTC) - timedelta(days=31))
    code, said, err = run("collateral", "show", keeper.file(), *keeper.root)
    assert (code, "not now" in said, "crl.expired" in err) == (3, True, True)


def test_collateral_of_today_becomes_a_bundle_in_one_step(run: Run, keeper: Keeper) -> None:
    assert run("collateral", "import", keeper.file(), *keeper.key(), *keeper.verifier)[0] == 0
    assert run("collateral", "show", keeper.placed, *keeper.root)[1].startswith("bundle")


def test_certificates_of_one_platform_do_not_get_into_what_is_for_its_family(run: Run, keeper: Keeper) -> None:
    other = keeper.platform.copy()  # of the same family, and certified with another PPID
    other.ppid = bytes(16)
    file = keeper.file()
    chain = parse_quote(quote_of(keeper.platform)).pck_chain.rstrip(b"\0").decode()
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"pck_certificate_chain": chain}))
    assert run("collateral", "import", file, *keeper.key(), *keeper.verifier)[0] == 0
    now = datetime.now(UTC)
    for platform in (keeper.platform, other):
        endorsed = keeper.store().current(quote_of(platform), now).verified
        verify_quote(quote_of(platform), endorsed, endorsed.anchor, now)


def test_without_signers_a_file_is_imported_as_it_is(run: Run, keeper: Keeper) -> None:
    keeper.settings(signed=False)
    file = keeper.file()
    assert run("collateral", "import", file, *keeper.verifier)[0] == 0
    assert keeper.placed.read_bytes() == file.read_bytes()


@pytest.mark.attack("J07")
@pytest.mark.parametrize("signed", [False, True])
def test_what_too_few_have_signed_is_not_imported(run: Run, keeper: Keeper, signed: bool) -> None:
    keeper.settings(signed=True, threshold=2)
    bundle = keeper.folder / "all.bundle"
    run("collateral", "sign", keeper.file(), "-o", bundle, *keeper.key(), *keeper.root)
    code, _, err = run("collateral", "import", bundle if signed else keeper.file(), *keeper.verifier)
    assert (code, "signature.insufficient" in err, keeper.placed.exists()) == (1, True, False)
    run("collateral", "sign", bundle, "-o", bundle, *keeper.key(1), *keeper.root)  # the other signs too
    assert run("collateral", "import", bundle, *keeper.verifier)[0] == 0


@pytest.mark.attack("J07")
@pytest.mark.attack("B05")
@pytest.mark.parametrize("started", [False, True], ids=["before the verifier started", "after"])
@pytest.mark.parametrize("older", ["version", "content"])
def test_what_is_older_than_what_was_seen_is_not_imported(run: Run, keeper: Keeper, started: bool, older: str) -> None:
    now = datetime.now(UTC)
    old = keeper.file()
    keeper.platform.reissue(now + timedelta(minutes=30))
    new = keeper.file(name="new.json")
    assert run("collateral", "import", new, *keeper.key(), *keeper.verifier, "--version", "5")[0] == 0
    if started:  # what the verifier has seen counts, whatever lies there now
        keeper.store().look(now)
        keeper.placed.unlink()
    before = keeper.placed.read_bytes() if keeper.placed.exists() else None
    words = (new, "--version", "4") if older == "version" else (old, "--version", "6")
    code, _, err = run("collateral", "import", *words, *keeper.key(), *keeper.verifier)
    assert (code, "collateral.rolled_back" in err) == (3, True)
    assert (keeper.placed.read_bytes() if keeper.placed.exists() else None) == before


def test_what_is_not_genuine_is_not_signed(run: Run, keeper: Keeper) -> None:
    out = keeper.folder / "all.bundle"
    keeper.platform.tcb_info_signer = "pck"
    assert run("collateral", "sign", keeper.file(), "-o", out, *keeper.key(), *keeper.root)[0] == 3
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fetch", "-o", "x"], "--fmspc"),
        (["fetch", "-o", "x", "--fmspc", "zz"], "--fmspc zz names no platform family: an FMSPC is 12 lower-case hex"),
        (["fetch", "-o", "x", "--fmspc", "0" * 12, "--ca", "cpu"], "--ca cpu"),
        (["fetch", "-o", "none/x", "--fmspc", "0" * 12], "there is no folder none"),
        (["fetch", "-o", "x", "--fmspc", "0" * 12, "--anchor-root", "one.json"], "one.json is no certificate in DER"),
        (["fetch", "-o", "x", "--fmspc", "0" * 12, "--url", "http://pccs.example"], "only https"),
        (["fetch", "-o", "x", "--fmspc", "0" * 12, "--fmspc", "1" * 12], "--key"),
        (["fetch", "-o", "x", "--for", "one.json"], "names no platform family"),
        (["fetch", "-o", "x", "--for", "absent"], "names no platform family"),
        (["sign", "one.json", "-o", "x"], "--key"),
        (["import", "one.json", "--settings", "absent.toml"], "absent.toml"),
        (["import", "0.pem", "--settings", "settings.toml"], "0.pem: the collateral is no signed bundle, and must be"),
        (["show", "absent"], "absent cannot be read"),
        (["show", "0.pem"], "0.pem: collateral is not"),
    ],
)
def test_what_is_wrong_with_a_command_is_said(
    run: Run, keeper: Keeper, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    keeper.file()
    monkeypatch.chdir(keeper.folder)
    code, _, err = run("collateral", *words)
    assert code in (1, 2)
    assert said in err
    assert not Path("x").exists()


def test_show_of_what_is_of_no_family(run: Run, keeper: Keeper) -> None:
    file = keeper.file()
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"pck_crl_issuer_chain": "none"}))
    code, _, err = run("collateral", "show", file, *keeper.root)
    assert (code, "of no platform family" in err) == (3, True)
