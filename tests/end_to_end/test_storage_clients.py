"""dvc and pyarrow on a bucket, in the environment that `make setup` makes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from google.cloud.storage import Bucket, Client

from tests.conftest import REQUIRE_ALL, Emulator

CLIENTS = Path(sys.prefix) / "clients" / "bin"


@pytest.fixture(autouse=True)
def _clients() -> None:
    if (CLIENTS / "python").exists():
        return
    if REQUIRE_ALL:
        pytest.fail("SELFLOOP_REQUIRE_ALL=1, and dvc and pyarrow are not there: make setup")
    pytest.skip("dvc and pyarrow are not there: make setup")


@pytest.fixture
def bucket(emulator: Emulator, project: str) -> Bucket:
    return Client(project=project).create_bucket(f"{project}-bucket")


def test_dvc_pushes_and_pulls_versions_of_data(emulator: Emulator, bucket: Bucket, tmp_path: Path) -> None:
    def dvc(*arguments: str) -> str:
        done = subprocess.run(
            [str(CLIENTS / "python"), "-m", "dvc", *arguments], cwd=tmp_path, timeout=120, check=False,
            env=emulator.environment(DVC_NO_ANALYTICS="1", DVC_GLOBAL_CONFIG_DIR=str(tmp_path / "global")),
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout

    dvc("init", "--no-scm", "--quiet")
    dvc("remote", "add", "--default", "store", f"gs://{bucket.name}/dvc")
    (tmp_path / "data").mkdir()
    for number in range(20):
        (tmp_path / "data" / f"{number}.csv").write_text(f"a,b\n{number},{number * number}\n")
    dvc("add", "--quiet", "data")
    dvc("push")
    stored = [blob.name for blob in bucket.list_blobs()]
    assert len(stored) == 21, "twenty files and their folder"
    assert all(name.startswith("dvc/files/md5/") for name in stored)
    assert "in sync" in dvc("status", "--cloud")
    for folder in (tmp_path / "data", tmp_path / ".dvc" / "cache"):
        for file in folder.rglob("*"):
            if file.is_file():
                file.chmod(0o600)
                file.unlink()
    dvc("pull")
    assert (tmp_path / "data" / "7.csv").read_text() == "a,b\n7,49\n"
    assert len(list((tmp_path / "data").iterdir())) == 20


def test_pyarrow_reads_and_writes_parquet(emulator: Emulator, bucket: Bucket) -> None:
    """Its file system is Google's C++ client."""
    script = """
        import sys
        import pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq
        from pyarrow import fs
        (bucket,) = sys.argv[1:]
        gcs = fs.GcsFileSystem()
        table = pa.table({"n": list(range(100_000)), "part": [n % 2 for n in range(100_000)]})
        pq.write_table(table, f"{bucket}/one/table.parquet", filesystem=gcs)
        assert pq.read_table(f"{bucket}/one/table.parquet", filesystem=gcs).equals(table)
        ds.write_dataset(table, f"{bucket}/many", format="parquet", partitioning=["part"], filesystem=gcs)
        found = ds.dataset(f"{bucket}/many", format="parquet", partitioning=["part"], filesystem=gcs)
        assert found.count_rows(filter=ds.field("part") == 1) == 50_000
        names = [info.path for info in gcs.get_file_info(fs.FileSelector(f"{bucket}/one", recursive=True))]
        assert names == [f"{bucket}/one/table.parquet"], names
        gcs.copy_file(f"{bucket}/one/table.parquet", f"{bucket}/two.parquet")
        gcs.move(f"{bucket}/two.parquet", f"{bucket}/three.parquet")
        gcs.delete_file(f"{bucket}/one/table.parquet")
        with gcs.open_input_file(f"{bucket}/three.parquet") as file:
            file.seek(file.size() - 4)
            assert file.read() == b"PAR1"
        assert gcs.get_file_info(f"{bucket}/two.parquet").type == fs.FileType.NotFound
    """
    done = emulator.run(str(CLIENTS / "python"), "-c", textwrap.dedent(script), bucket.name, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "three.parquet" in [blob.name for blob in bucket.list_blobs()]
