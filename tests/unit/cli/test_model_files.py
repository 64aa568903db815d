"""What `cloister model seal` puts into a model, and under which names."""

import os

import pytest
import typer

from cloister.cli.model_files import gather, head


@pytest.fixture
def saved(tmp_path):
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        path = tmp_path / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "export"


def test_files_keep_their_names(tmp_path):
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_bytes(b"x")
    assert list(gather([tmp_path / "model.xml", tmp_path / "model.bin"])) == ["model.xml", "model.bin"]


def test_a_folders_files_keep_their_place_in_it(saved):
    assert gather([saved]) == {
        "saved_model.pb": saved / "saved_model.pb",
        "variables/variables.data-00000-of-00001": saved / "variables/variables.data-00000-of-00001",
        "variables/variables.index": saved / "variables/variables.index",
    }


def test_a_name_that_no_model_may_hold(saved):
    (saved / "variables" / ".DS_Store").write_bytes(b"x")
    with pytest.raises(typer.BadParameter, match=r"\.DS_Store.*rename it, or leave it out"):
        gather([saved])


def test_two_files_of_one_name(saved, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(typer.BadParameter, match=r"would both be 'saved_model\.pb'"):
        gather([saved, tmp_path / "saved_model.pb"])


def test_an_empty_folder(tmp_path):
    with pytest.raises(typer.BadParameter, match="no file"):
        gather([tmp_path])


def test_links_to_files_are_followed_and_nothing_is_left_out_unseen(saved, tmp_path):
    (tmp_path / "blob").write_bytes(b"x")
    (saved / "more.txt").symlink_to(tmp_path / "blob")
    assert "more.txt" in gather([saved])
    (tmp_path / "elsewhere").mkdir()
    odd = {
        "dir": lambda path: path.symlink_to(tmp_path / "elsewhere"),
        "gone": lambda path: path.symlink_to("nothing"),
        "pipe": os.mkfifo,
    }
    for name, make in odd.items():
        make(saved / name)
        with pytest.raises(typer.BadParameter, match=rf"/{name}' is .*leave it out"):
            gather([saved])
        (saved / name).unlink()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["model.bin", "model.xml", "notes.txt"], "model.xml"),
        (["model.onnx"], "model.onnx"),
        (["a/saved_model.pb", "a/fingerprint.pb", "a/variables/variables.index"], "a/saved_model.pb"),
        (["net/x.pdiparams", "net/x.pdmodel"], "net/x.pdmodel"),
    ],
)
def test_what_the_model_is_known_by(names, found):
    assert head(names) == found


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["model.bin"], r"no file ends with \.xml"),
        (["model.xml"], r"weights of 'model\.xml' are missing; name its 'model\.bin'"),
        (["a/model.xml", "model.bin"], r"'a/model\.bin'"),
        (["model.onnx", "other.onnx"], r"'model\.onnx' and 'other\.onnx' are a model each"),
    ],
)
def test_what_no_worker_could_serve(names, says):
    with pytest.raises(typer.BadParameter, match=says):
        head(names)
