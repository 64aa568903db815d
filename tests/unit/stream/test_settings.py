"""Settings of the job: a mistake is told by its key, and no secret goes into the job's graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloister.errors import InvalidRequest
from cloister_stream.settings import Settings

TEXT = """gateway = ["gateway.example.org:8440"]
trust = "trust.json"
identity = "identity"
model = "breast-cancer"
input = "records"
output = "answers"
checkpoints = "checkpoints"
"""


def read(folder: Path, text: str) -> Settings:
    (folder / "job.toml").write_text(text)
    return Settings.read(folder / "job.toml")


def test_paths_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    settings = read(tmp_path, TEXT)
    assert settings.output == tmp_path / "answers"
    assert settings.job_name == f"cloister breast-cancer into {tmp_path / 'answers'}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("in_flight = 0", "in_flight: must be 1 to 4096"),
        ("parallelism = 0", "parallelism: must be 1 to 1024"),
        ("deadline_s = 0.5", "deadline_s: must be 1 to 86400"),
        ("checkpoint_s = 0", "checkpoint_s: must be 0.1 to 3600"),
        ('key = ""', "key: is empty"),
        ("in_fligt = 8", "in_flight"),
    ],
)
def test_a_mistake_is_told_by_its_key(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as told:
        read(tmp_path, TEXT + line)
    assert told.value.reason == "settings.invalid"


@pytest.mark.parametrize("gateway", ["[]", '["gateway.example.org"]', '["unix:443"]'])
def test_a_gateway_is_host_and_port(tmp_path: Path, gateway: str) -> None:
    with pytest.raises(InvalidRequest, match=r"gateway|host:port"):
        read(tmp_path, TEXT.replace('["gateway.example.org:8440"]', gateway))


def test_the_jobs_graph_gets_places_and_numbers_and_nothing_that_was_read_there(tmp_path: Path) -> None:
    settings = read(tmp_path, TEXT)
    kinds = {type(getattr(settings, name)) for name in settings.__dataclass_fields__}
    assert kinds <= {str, int, float, tuple, type(tmp_path)}
