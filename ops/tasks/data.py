"""Data sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from ops.errors import readable_errors
from ops.tasks.options import CHANGING, DATASET

if TYPE_CHECKING:
    from ops.progress import Report
    from ops.session import Session


@task(
    help={
        **CHANGING,
        "dataset": DATASET,
        "rows": "how many; 0 takes the configuration's number",
        "seed": "same seed, same rows; -1 takes the configuration's",
    }
)
def data_seed(
    c: Context,
    env: str = "local",
    dataset: str | None = None,
    rows: int = 0,
    seed: int = -1,
    yes: bool = False,
    emulated: bool = False,
) -> None:
    """Generate a data set and put it into its bucket; prints its URI."""
    from ops import data

    def put(session: Session, key: str, report: Report) -> None:
        chosen = {"rows": rows or None, "random_seed": seed if seed >= 0 else None}
        data.seed(session.config, session.clients, key, report, **chosen)

    _replace(env, dataset, "generated rows", put, yes=yes, emulated=emulated)


@task(name="import", positional=["path"], help={**CHANGING, "path": "a file", "dataset": DATASET})
def data_import(
    c: Context, path: str, env: str = "local", dataset: str | None = None, yes: bool = False, emulated: bool = False
) -> None:
    """Make a data set of a local file; prints its URI."""
    from pathlib import Path

    from ops import data

    def put(session: Session, key: str, report: Report) -> None:
        data.upload(session.config, session.clients, key, Path(path), report)

    _replace(env, dataset, path, put, yes=yes, emulated=emulated)


def _replace(
    env: str,
    dataset: str | None,
    by: str,
    put: Callable[[Session, str, Report], None],
    *,
    yes: bool,
    emulated: bool,
) -> None:
    """Ask, see to the bucket, put the data there and print where they are."""
    with readable_errors():
        from ops.progress import Report
        from ops.reconcile.targeted import bring_about
        from ops.session import open_session

        session = open_session(env, emulated=emulated)
        key, _ = session.config.dataset(dataset)
        uri, report = session.config.dataset_uri(key), Report()
        session.announce()
        session.ask(f"Replace {uri} by {by}?", yes=yes)
        bring_about(session.config, session.clients, report, {"bucket"})
        with report.step("data"):
            put(session, key, report)
        print(uri)
