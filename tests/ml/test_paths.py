from __future__ import annotations

from pathlib import Path

import pytest

from ml import paths
from ml.errors import InputError, one_line_errors


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for /gcs."""
    folder = tmp_path / "gcs"
    folder.mkdir()
    monkeypatch.setattr(paths, "MOUNT", folder)
    return folder


def test_local_path_of_a_uri_lies_under_the_mount(mount: Path) -> None:
    assert paths.local_path("gs://bucket/out/model/") == mount / "bucket" / "out" / "model"


def test_local_path_keeps_colons_of_default_output_folders(mount: Path) -> None:
    name = "aiplatform-custom-training-2026-02-23-18:48:37.123"
    assert paths.local_path(f"gs://bucket/{name}/model/") == mount / "bucket" / name / "model"


def test_local_path_of_a_plain_path_is_itself() -> None:
    assert paths.local_path("data/trips.csv") == Path("data/trips.csv")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("gs://", "names no bucket"),
        ("gs:///name", "names no bucket"),
        ("gs://../etc", "names no bucket"),
        ("gs://bucket/../other/name", "cannot be parts"),
        ("bq://project.dataset.table", "not from bq://"),
        ("https://host/file.csv", "not from https://"),
    ],
)
def test_local_path_refuses_what_it_cannot_reach(mount: Path, location: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        paths.local_path(location)


def test_local_path_of_a_uri_without_the_mount_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "MOUNT", tmp_path / "absent")
    with pytest.raises(InputError, match=r"gs://bucket/name: .*absent is not mounted here"):
        paths.local_path("gs://bucket/name")


def test_input_files_of_a_list_with_wildcards_are_sorted_and_each_once(mount: Path, tmp_path: Path) -> None:
    shards = mount / "bucket" / "data"
    shards.mkdir(parents=True)
    for name in ("b-2.csv", "b-1.csv", "other.txt"):
        (shards / name).write_text("x")
    (shards / "b-folder.csv").mkdir()
    local = tmp_path / "local.csv"
    local.write_text("x")
    found = paths.input_files(f"gs://bucket/data/b-*.csv, {local}, gs://bucket/data/b-1.csv")
    assert found == [shards / "b-1.csv", shards / "b-2.csv", local]


def test_input_files_take_only_the_star_as_special(tmp_path: Path) -> None:
    (tmp_path / "a[1]?-x.csv").write_text("x")
    (tmp_path / "a1b-x.csv").write_text("x")
    assert paths.input_files(f"{tmp_path}/a[1]?-*.csv") == [tmp_path / "a[1]?-x.csv"]


def test_input_files_of_a_name_with_a_comma_is_that_file(tmp_path: Path) -> None:
    file = tmp_path / "trips, march.csv"
    file.write_text("x")
    assert paths.input_files(str(file)) == [file]


@pytest.mark.parametrize(
    ("locations", "message"),
    [
        ("nowhere/*.csv", "no file matches"),
        ("nowhere.csv", "there is no such file"),
        (".", "is a folder"),
        (" , ", "no data file is named"),
    ],
)
def test_input_files_refuse_an_entry_that_names_no_file(locations: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        paths.input_files(locations)


def test_one_line_errors_end_with_code_one_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"), one_line_errors():
        raise InputError("trips.csv:1: column tip_amount missing")
    assert capsys.readouterr().err == "error: trips.csv:1: column tip_amount missing\n"


def test_one_line_errors_name_a_file_that_cannot_be_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"), one_line_errors():
        (tmp_path / "absent").read_bytes()
    assert capsys.readouterr().err == f"error: {tmp_path}/absent: No such file or directory\n"


def test_one_line_errors_let_a_bug_through() -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0
