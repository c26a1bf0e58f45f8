"""gcsfs, and pandas on `gs://`, in a shell that took the exports."""

from __future__ import annotations

import sys
import textwrap

from google.cloud.storage import Bucket

from tests.conftest import Emulator


def run(emulator: Emulator, script: str, *arguments: str) -> str:
    """A program of its own: gcsfs keeps an event loop and its settings for the life of a process."""
    done = emulator.run(sys.executable, "-c", textwrap.dedent(script), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_are_written_read_listed_moved_and_deleted_in_batches(emulator: Emulator, bucket: Bucket) -> None:
    out = run(
        emulator,
        """
        import os, sys
        import gcsfs
        (bucket,) = sys.argv[1:]
        fs = gcsfs.GCSFileSystem()
        small, large = b"hello", os.urandom(12 * 1024 * 1024)
        fs.pipe({f"{bucket}/dir/{n}": small for n in ["a", "b c", "ünï"]})
        with fs.open(f"{bucket}/large", "wb", block_size=5 * 2**20) as file:
            file.write(large)
        assert fs.cat(f"{bucket}/large") == large
        assert fs.cat_file(f"{bucket}/large", start=10, end=20) == large[10:20]
        assert fs.cat(f"{bucket}/dir/ünï") == small
        fs.mv(f"{bucket}/dir/a", f"{bucket}/dir/moved")
        fs.cp(f"{bucket}/large", f"{bucket}/copy")
        assert fs.exists(f"{bucket}/copy") and not fs.exists(f"{bucket}/dir/a")
        fs.invalidate_cache()
        print(sorted(fs.find(bucket)))
        fs.rm(f"{bucket}/dir", recursive=True)
        fs.rm([f"{bucket}/large", f"{bucket}/copy"])
        fs.invalidate_cache()
        print(fs.find(bucket))
        """,
        bucket.name,
    )
    names = ["copy", "dir/b c", "dir/moved", "dir/ünï", "large"]
    assert out.splitlines() == [str([f"{bucket.name}/{name}" for name in names]), "[]"]
    calls = emulator.control("GET", "journal?method=storage.objects.delete&limit=5")["calls"]
    assert {call["status"] for call in calls} == {"OK"}


def test_pandas_reads_and_writes_gs_addresses(emulator: Emulator, bucket: Bucket) -> None:
    out = run(
        emulator,
        """
        import sys
        import pandas
        frame = pandas.DataFrame({"a": range(1000), "b": ["ü"] * 1000})
        frame.to_csv(f"gs://{sys.argv[1]}/dir/frame.csv", index=False)
        print(pandas.read_csv(f"gs://{sys.argv[1]}/dir/frame.csv").equals(frame))
        """,
        bucket.name,
    )
    assert out.strip() == "True"
    assert bucket.get_blob("dir/frame.csv") is not None
