"""What `cloister model seal` puts into a model, and under which names."""

import pytest
import typer

from cloister.cli.model_files import gather


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
