"""Exit codes and sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister import errors
from cloister.cli.failures import ExitCode, Stop, exit_code, sentence
from cloister.cli.output import _printable, table


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Stop("no such folder"), ExitCode.FAILED),
        (Stop("wrong option", ExitCode.USAGE), ExitCode.USAGE),
        (errors.EvidenceRejected("not believed"), ExitCode.REFUSED),
        (errors.KeyRefused("not entitled"), ExitCode.REFUSED),
        (errors.SealBroken(), ExitCode.REFUSED),
        (errors.NotAllowed("not your role"), ExitCode.REFUSED),
        (errors.Unauthenticated("who"), ExitCode.REFUSED),
        (errors.Unavailable("down"), ExitCode.UNAVAILABLE),
        (errors.Overloaded("full"), ExitCode.UNAVAILABLE),
        (TimeoutError(), ExitCode.UNAVAILABLE),
        (errors.NotFound("no model"), ExitCode.FAILED),
        (errors.InvalidRequest("no tensor"), ExitCode.FAILED),
        (FileNotFoundError("x"), ExitCode.USAGE),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(error: BaseException, code: ExitCode) -> None:
    assert exit_code(error) is code
    said = sentence(error)
    assert said
    assert "\n" not in said


def test_a_sentence_says_what_was_wrong_its_reason_and_what_to_do() -> None:
    said = sentence(errors.Unavailable("no connection\nto the gateway", reason="peer.unavailable"))
    assert said.startswith("no connection to the gateway (peer.unavailable); ")
    assert "cloister status" in said


def test_an_error_of_the_system_names_its_file_in_words(tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011  # whatever the system says
        (tmp_path / "none" / "x").read_bytes()
    assert sentence(raised.value) == f"{tmp_path / 'none' / 'x'} cannot be used: No such file or directory"


def test_what_came_over_the_wire_cannot_move_the_cursor() -> None:
    assert _printable("a\x1b[2Jb\x07\nc") == "a\\x1b[2Jb\\x07\nc"


@pytest.mark.parametrize(
    "reason", ["enclave.incomplete", "image.differs", "measured.unreadable", "sgx.missing", "token.locked"]
)
def test_who_builds_an_enclave_is_not_sent_to_a_mesh(reason: str) -> None:
    assert "cloister status" in sentence(errors.NotReady("not yet"))
    assert "cloister status" not in sentence(errors.NotReady("not yet", reason=reason))


def test_what_is_none_is_an_empty_cell(capsys: pytest.CaptureFixture[str]) -> None:
    table(("kind", "until", "by"), [("measurement", None, "operator")])
    assert capsys.readouterr().out.splitlines()[1].split() == ["measurement", "operator"]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errors.Unavailable("nobody serves it", reason="model.unavailable"), "whether it is withdrawn"),
        (errors.NotFound("iris is not withdrawn", reason="withdrawal.unknown"), "cloister revoke list"),
        (errors.AlreadyExists("iris is withdrawn already", reason="withdrawal.exists"), "cloister revoke list"),
    ],
)
def test_who_owns_a_model_is_sent_where_the_answer_is(error: errors.CloisterError, says: str) -> None:
    assert says in sentence(error)
    assert "is the mesh up" not in sentence(error)


@pytest.mark.parametrize("reason", ["withdrawal.lift_unsigned", "revocation.lift_unsigned", "recovery.unordered"])
def test_who_lacks_signatures_is_not_sent_for_another_identity(reason: str) -> None:
    assert "identity" in sentence(errors.NotAllowed("not your role"))
    assert "identity" not in sentence(errors.NotAllowed("2 must sign", reason=reason))
