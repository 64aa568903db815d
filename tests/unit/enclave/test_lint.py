"""The linter: what breaks no rule, and for each rule a manifest that is whole but for one thing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cloister.enclave import lint, rules_host
from cloister.enclave.configuration import take_configuration
from cloister.enclave.kinds import KINDS, VERIFIER, WORKER, EnclaveSet, Kind
from cloister.enclave.manifest import render
from cloister.enclave.manifest_view import read_manifest
from cloister.errors import InvalidRequest
from fakes.enclave_folder import write_programs, write_settings
from fakes.linted_enclave import LintedEnclave
from fakes.manifest_breaks import ARGV, BREAKS, Break, set_to, with_reason


def found_in(enclave: LintedEnclave) -> set[str]:
    return {finding.rule for finding in lint.findings(read_manifest(enclave.write()))}


@pytest.mark.parametrize("enclave_set", EnclaveSet)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_manifest_of_ours_that_is_whole_breaks_no_rule(tmp_path: Path, kind: Any, enclave_set: EnclaveSet) -> None:
    enclave = LintedEnclave(tmp_path, kind, enclave_set)
    assert lint.findings(read_manifest(enclave.write())) == []
    assert lint.findings(read_manifest(enclave.write(".manifest.sgx"))) == []
    lint.check(tmp_path)


CASES = [(rule, name, change) for rule, cases in BREAKS.items() for name, change in cases]


@pytest.mark.parametrize(("rule", "name", "change"), CASES, ids=[f"{rule} {name}" for rule, name, _ in CASES])
def test_what_breaks_a_rule_is_found_by_that_rule(tmp_path: Path, rule: str, name: str, change: Break) -> None:
    enclave = LintedEnclave(tmp_path, VERIFIER)
    change(enclave)
    assert found_in(enclave) == {rule}


def test_every_rule_is_broken_by_a_test_and_has_an_id_of_its_own() -> None:
    ids = [rule.id for rule in lint.RULES]
    assert sorted(set(ids)) == sorted(ids) == ids == list(BREAKS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("enclave_set", EnclaveSet)
def test_what_we_render_breaks_no_rule(tmp_path: Path, kind: Kind, enclave_set: EnclaveSet) -> None:
    folder = tmp_path / "enclave"
    configuration = take_configuration(kind, write_settings(tmp_path / "service", kind), folder)
    write_programs(folder)
    reason = "" if enclave_set is EnclaveSet.HARDENED else "it halves the latency of small models"
    for importing in (False, True) if configuration.secrets else (False,):
        render(kind, enclave_set, folder, configuration, eventfd_reason=reason, importing=importing)
    assert not any(lint.lint(folder).values())


OPTIONS = {
    "loader.insecure__disable_aslr": True,
    "sys.insecure__allow_eventfd": True,
    "sgx.insecure__rpc_thread_num": 4,
    "sgx.use_exinfo": True,
    "sgx.enable_stats": True,
    "sys.experimental__enable_flock": True,
}


@pytest.mark.parametrize("key", OPTIONS)
def test_an_option_that_weakens_needs_a_reason_which_is_none_in_the_hardened_set(tmp_path: Path, key: str) -> None:
    for enclave_set in EnclaveSet:
        enclave = LintedEnclave(tmp_path / enclave_set, VERIFIER, enclave_set)
        set_to(key, OPTIONS[key])(enclave)
        assert len(found_in(enclave)) == 1
        enclave.reasons[key] = "because"  # no sentence
        assert len(found_in(enclave)) == 1
        with_reason(key)(enclave)
        assert bool(found_in(enclave)) is (enclave_set is EnclaveSet.HARDENED)


@pytest.mark.parametrize("key", ["loader.insecure__use_host_env", "loader.insecure__use_cmdline_argv"])
def test_no_reason_lets_the_hosts_environment_or_arguments_in(tmp_path: Path, key: str) -> None:
    enclave = LintedEnclave(tmp_path, WORKER, EnclaveSet.SIMULATED)
    set_to(key, True)(enclave)
    with_reason(key)(enclave)
    assert found_in(enclave) == {"M10" if "env" in key else "M13"}


@pytest.mark.parametrize(
    "name", ["LD_PRELOAD", "PYTHONPATH", "OPENVINO_LOG_LEVEL", "GRPC_TRACE", "HTTPS_PROXY", "LANG"]
)
def test_what_steers_code_is_not_the_hosts_even_if_a_kind_says_so(tmp_path: Path, name: str) -> None:
    assert not [kind for kind in KINDS.values() if any(rules_host.NEVER.fullmatch(each) for each in kind.host_chosen)]
    enclave = LintedEnclave(tmp_path, VERIFIER)
    set_to(f"loader.env.{name}", {"passthrough": True})(enclave)
    assert found_in(enclave) == {"M12"}


@pytest.mark.attack("C11")
def test_a_mount_over_attestation_is_for_the_simulated_set(tmp_path: Path) -> None:
    for enclave_set in (EnclaveSet.HARDENED, EnclaveSet.DEBUG):
        enclave = LintedEnclave(tmp_path / enclave_set, WORKER, enclave_set)
        enclave.mount(path="/dev/attestation", uri="file:host/attestation")
        assert found_in(enclave) == {"M31"}
    # Whoever labels it as simulated has another enclave, of another product, and says so.
    enclave = LintedEnclave(tmp_path / "relabelled", WORKER, EnclaveSet.HARDENED)
    enclave.mount(path="/dev/attestation", uri="file:host/attestation")
    set_to("loader.env.CLOISTER_ENCLAVE", "worker simulated")(enclave)
    assert "M03" in found_in(enclave)


def test_debug_is_for_the_debug_set_which_has_it(tmp_path: Path) -> None:
    for enclave_set in EnclaveSet:
        enclave = LintedEnclave(tmp_path / enclave_set, WORKER, enclave_set)
        set_to("sgx.debug", enclave_set is not EnclaveSet.DEBUG)(enclave)
        assert found_in(enclave) == {"M04"}


@pytest.mark.attack("C12")
@pytest.mark.attack("C13")
@pytest.mark.attack("J11")
@pytest.mark.parametrize("rule", ["M31", "M50", "M51", "M52", "M53", "M54"])
def test_what_a_production_image_must_not_hold_stops_a_build(tmp_path: Path, rule: str) -> None:
    """`cloister enclave build` ends with this check, before anything is measured."""
    for number, (_, change) in enumerate(BREAKS[rule]):
        enclave = LintedEnclave(tmp_path / str(number), VERIFIER)
        change(enclave)
        with pytest.raises(InvalidRequest, match=rule) as refused:
            lint.check(enclave.write())
        assert refused.value.reason == "manifest.refused"


@pytest.mark.attack("C12")
@pytest.mark.parametrize("words", [("-m", "cloister_simulator.enclave_verifier"), ("-mcloister_simulator",)])
def test_the_simulators_verifier_in_place_of_ours_breaks_two_rules(tmp_path: Path, words: tuple[str, ...]) -> None:
    enclave = LintedEnclave(tmp_path, VERIFIER)
    set_to("loader.argv", [*ARGV, "-I", *words])(enclave)
    assert found_in(enclave) == {"M17", "M50"}


def test_a_strangers_manifest_is_held_to_what_is_not_ours_alone(tmp_path: Path) -> None:
    """As Gramine's examples are: it says of no set that it is of it."""
    manifest = tmp_path / "redis-server.manifest"
    manifest.write_text(
        """
        loader.entrypoint.uri = "file:/usr/lib/gramine/libsysdb.so"
        libos.entrypoint = "/usr/bin/redis-server"
        loader.log_level = "debug"
        loader.env.LD_LIBRARY_PATH = "/lib:/usr/lib"
        sys.insecure__allow_eventfd = true
        fs.mounts = [
          { path = "/lib", uri = "file:/usr/lib/gramine/runtime/glibc" },
          { path = "/usr", uri = "file:/usr" },
        ]
        sgx.debug = true
        sgx.enclave_size = "1024M"
        sgx.trusted_files = ["file:/usr/bin/redis-server", "file:/usr/lib/gramine/runtime/glibc/"]
        sgx.allowed_files = ["file:/usr/lib/plugins/"]
        """
    )
    found = {finding.rule for finding in lint.lint(manifest)[manifest]}
    ours = {"M02", "M03", "M16"}
    assert {"M04", "M05", "M21", "M23", "M24", "M25", "M26", "M28", "M30", "M33", "M42", "M46", "M47", "M48"} == found
    assert not ours & found
    (tmp_path / "redis-server.reasons.toml").write_text('"sys.insecure__allow_eventfd" = "redis asks for it"\n')
    assert {finding.rule for finding in lint.lint(manifest)[manifest]} == found - {"M42"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.manifest.template", "{{ x }}", "is a template: lint the manifest that is rendered from it"),
        ("x.toml", "", "is no manifest"),
        ("x.manifest", "a = ", "is not TOML"),
        ("x.manifest", "\xff", "is not TOML"),
        ("x.manifest", "a" + "=[" * 100_000, "is not TOML"),
    ],
)
def test_what_is_no_manifest_is_refused_with_a_sentence(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(InvalidRequest, match=says):
        lint.lint(tmp_path / name)


def test_a_folder_without_a_manifest_or_a_file_that_is_not_there(tmp_path: Path) -> None:
    for place, says in ((tmp_path, "holds no manifest"), (tmp_path / "x.manifest", "is not there")):
        with pytest.raises(InvalidRequest, match=says):
            lint.lint(place)


@pytest.mark.parametrize(
    "junk", ["", "sgx = 3", "fs.mounts = 3\nsgx.trusted_files = {}", "[[fs.mounts]]\nx = [1]\n[loader]\nenv = []"]
)
def test_a_manifest_of_junk_has_findings_and_no_accident(tmp_path: Path, junk: str) -> None:
    (tmp_path / "x.manifest").write_text(junk)
    assert lint.lint(tmp_path / "x.manifest")[tmp_path / "x.manifest"]


def test_many_findings_alike_are_a_few_and_a_count(tmp_path: Path) -> None:
    enclave = LintedEnclave(tmp_path, WORKER)
    for number in range(100):
        enclave.table["sgx"]["trusted_files"].append({"uri": f"file:/usr/{number}", "sha256": "0" * 64})
    found = lint.findings(read_manifest(enclave.write()))
    assert len(found) == lint.SHOWN + 1
    assert found[-1].problem == f"and {100 - lint.SHOWN - 1} others are alike"
    assert all(finding.as_json().keys() == {"rule", "key", "problem", "why", "mend"} for finding in found)


def test_a_pipe_or_a_link_that_leads_nowhere_holds_nobody_up(tmp_path: Path) -> None:
    enclave = LintedEnclave(tmp_path, WORKER)
    os.mkfifo(tmp_path / "host" / "models_dir" / "pipe")
    (tmp_path / "host" / "models_dir" / "link").symlink_to("/nonexistent")
    (tmp_path / "host" / "models_dir" / "round").symlink_to(tmp_path / "host" / "models_dir")
    assert found_in(enclave) == set()
