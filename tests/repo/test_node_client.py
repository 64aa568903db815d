"""The Node.js client: the vectors in its own tests, its types, and a lock that names no registry."""

from __future__ import annotations

import json
import re

from fakes.node_client import FOLDER, run


def test_its_own_tests_pass() -> None:
    """All vectors, `seal-v1.json` and `xwing.json` included; a file of tests without any would not count."""
    done = run(["--test", "--test-reporter=tap", "test/"], within_s=120)
    assert done.code == 0, re.findall(r"^not ok.*", done.out, re.MULTILINE)
    for first in ("token: good, ES256", "request 0 comes out byte for byte", "X-Wing, vector 2", "a batch of 9"):
        assert re.search(rf"^ok \d+ - {re.escape(first)}", done.out, re.MULTILINE), first


def test_its_types_hold() -> None:
    done = run(["node_modules/typescript/bin/tsc", "--project", "jsconfig.json"], within_s=120)
    assert (done.code, done.out) == (0, "")


def test_it_is_formatted() -> None:
    done = run(["node_modules/prettier/bin/prettier.cjs", "--check", "."])
    assert done.code == 0, done.out + done.err


def test_the_guide_names_options_that_it_has() -> None:
    guide = (FOLDER.parents[1] / "docs" / "guides" / "other-languages.md").read_text()
    (command,) = re.findall(r"^node clients/node/infer\.mjs .*$", guide, re.MULTILINE)
    used, known = set(re.findall(r"--[a-z]+", command)), set(re.findall(r"^  (--[a-z]+)", run_help(), re.MULTILINE))
    assert used <= known
    assert "--receipt" in used


def run_help() -> str:
    return run(["infer.mjs", "--help"]).out


def test_versions_are_exact_and_the_lock_names_no_registry() -> None:
    package = json.loads((FOLDER / "package.json").read_text())
    for version in {**package["dependencies"], **package["devDependencies"]}.values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    lock = (FOLDER / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "registry" not in lock
    packages = json.loads(lock)["packages"]
    assert all(each["integrity"].startswith("sha512-") for name, each in packages.items() if name)
