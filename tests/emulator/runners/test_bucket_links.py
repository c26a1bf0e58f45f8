"""/gcs at level none: links that several emulators make side by side."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emulator.core.interfaces import ExitReason
from emulator.runners.bucket_links import BucketLinks
from tests.emulator.runners.conftest import BUCKET, MakeRuntime


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "gcs"


def tree(tmp_path: Path, name: str, *buckets: str) -> Path:
    for bucket in buckets:
        (tmp_path / name / bucket).mkdir(parents=True)
    return tmp_path / name


def test_buckets_are_seen_while_somebody_uses_them(tmp_path: Path, root: Path) -> None:
    links = BucketLinks(tree(tmp_path, "one", "a", "b"), root)
    links.acquire()
    links.acquire()
    links.release()
    (root / "a" / "object").write_text("x")
    assert (tmp_path / "one" / "a" / "object").read_text() == "x"
    links.release()
    assert not root.exists()
    assert (tmp_path / "one" / "a" / "object").exists()


def test_bucket_made_later_is_linked_while_a_job_runs(tmp_path: Path, root: Path) -> None:
    links = BucketLinks(tree(tmp_path, "one", "a"), root)
    (tmp_path / "one" / "b").mkdir()
    links.add("b")
    assert not root.exists()
    links.acquire()
    (tmp_path / "one" / "c").mkdir()
    links.add("c")
    assert sorted(path.name for path in root.iterdir() if path.is_symlink()) == ["a", "b", "c"]
    links.release()
    assert not root.exists()


def test_folder_that_was_there_stays(tmp_path: Path, root: Path) -> None:
    root.mkdir()
    links = BucketLinks(tree(tmp_path, "one", "a"), root)
    links.acquire()
    links.release()
    assert list(root.iterdir()) == []


def test_two_emulators_use_it_side_by_side(tmp_path: Path, root: Path) -> None:
    one, two = BucketLinks(tree(tmp_path, "one", "a"), root), BucketLinks(tree(tmp_path, "two", "b"), root)
    one.acquire()
    two.acquire()
    one.release()
    assert (root / "b").exists()
    assert not os.path.lexists(root / "a")
    assert two.problem(["/gcs/b/x"]) is None
    two.release()
    assert not root.exists()


def test_bucket_of_the_same_name_is_refused_by_name(tmp_path: Path, root: Path) -> None:
    one, two = BucketLinks(tree(tmp_path, "one", "a"), root), BucketLinks(tree(tmp_path, "two", "a", "b"), root)
    one.acquire()
    two.acquire()
    assert "It uses /gcs/a, but" in (two.problem(["--data=/gcs/a/train.csv"]) or "")
    assert "It uses /gcs/a, but" in (two.problem([], outputs=["gs://a/model/"]) or "")
    assert two.problem(["/gcs/b/train.csv"], outputs=["gs://b/model/"]) is None
    two.release()
    assert os.readlink(root / "a") == str(tmp_path / "one" / "a")


def test_link_of_an_emulator_that_is_gone_is_replaced(tmp_path: Path, root: Path) -> None:
    root.mkdir()
    (root / "a").symlink_to(tmp_path / "removed" / "a")
    links = BucketLinks(tree(tmp_path, "one", "a"), root)
    links.acquire()
    assert links.problem(["/gcs/a"]) is None
    assert os.readlink(root / "a") == str(tmp_path / "one" / "a")


def test_links_of_a_killed_run_are_removed_and_others_left(tmp_path: Path, root: Path) -> None:
    BucketLinks(tree(tmp_path, "one", "a"), root).acquire()
    BucketLinks(tree(tmp_path, "two", "b"), root).acquire()
    BucketLinks(tmp_path / "one", root).remove_left()
    assert not os.path.lexists(root / "a")
    assert (root / "b").exists()
    BucketLinks(tmp_path / "two", root).remove_left()
    assert not root.exists()


def test_place_that_cannot_be_made_is_a_problem_of_those_who_name_it(tmp_path: Path) -> None:
    links = BucketLinks(tree(tmp_path, "one", "a"), tmp_path / "file" / "gcs")
    (tmp_path / "file").write_text("no folder")
    links.acquire()
    assert "cannot be made at sandbox level none" in (links.problem(["ls /gcs/a"]) or "")
    assert links.problem(["echo /gcsx gcs /data/gcs.txt"], outputs=["4"]) is None
    assert "cannot be made" in (links.warning or "")


def test_job_that_names_gcs_where_there_is_none_fails_and_another_is_told(
    make_runtime: MakeRuntime, tmp_path: Path
) -> None:
    runtime = make_runtime("none")
    (tmp_path / "file").write_text("no folder")
    runtime.runner.links = BucketLinks(runtime.objects.tree, tmp_path / "file" / "gcs")
    result = runtime.run(runtime.container("ls", f"/gcs/{BUCKET}")).result
    assert result.reason is ExitReason.START_FAILED
    assert "customJobs/1/workerpool0-0 cannot be run: It uses /gcs, but" in result.message
    result = runtime.run(runtime.container("true", env={"AIP_MODEL_DIR": f"gs://{BUCKET}/model/"})).result
    assert result.reason is ExitReason.START_FAILED
    job = runtime.run(runtime.container("true"))
    assert job.result.succeeded
    assert "There is no /gcs in this run" in job.text
