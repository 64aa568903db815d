"""What a module's source can import."""

import pytest

from cloister.enclave.imports import imported, is_within, modules_below, reached, resolves


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b", {"a.b"}),
        ("from a import b as c, d", {"a", "a.b", "a.d"}),
        ("def f():\n    try:\n        import a\n    except ImportError:\n        pass", {"a"}),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nelse:\n    import b",
            {"typing", "typing.TYPE_CHECKING", "b"},
        ),
        ("from . import a", {"top.pack", "top.pack.a"}),
        ("from ..other import a", {"top.other", "top.other.a"}),
        ("name = 'import a'", set()),
    ],
)
def test_import_statements_are_found_wherever_they_are(source, names):
    assert set(imported(source, "top.pack.module", package=False)) == names


def test_a_package_is_its_own_base():
    assert set(imported("from .a import b", "top.pack", package=True)) == {"top.pack.a", "top.pack.a.b"}


def test_what_is_reached_includes_packages_and_not_what_is_stopped_at(tmp_path):
    for name, source in {
        "__init__": "",
        "start": "def f():\n    from top.deep import late\n    import top.gone",
        "deep/__init__": "import top.of_deep",
        "deep/late": "",
        "of_deep": "",
        "gone": "import top.behind",
        "behind": "",
        "never": "",
    }.items():
        path = tmp_path / "top" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    sources = modules_below(tmp_path / "top")
    assert reached(["top.start"], sources, stop=["top.gone"]) == {
        "top",
        "top.start",
        "top.deep",
        "top.deep.late",
        "top.of_deep",
    }
    assert sources.keys() - reached(["top.start"], sources) == {"top.never"}


def test_a_name_is_a_module_or_an_attribute_of_one():
    known = {"a", "a.b"}.__contains__
    assert [resolves(name, known) for name in ("a", "a.b.c", "a.b.c.d", "b")] == [True, True, False, False]
    assert [is_within(name, ["a.b"]) for name in ("a", "a.b", "a.b.c", "a.bc")] == [False, True, True, False]
