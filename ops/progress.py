"""What a task tells while it works, on standard error; data goes to standard output."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.status import Status


class Report:
    """Steps with their times, and lines about what happens inside them."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the report began."""
        return time.monotonic() - self._started

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Tell of one step: that it runs while it does, then how long it took and what came of it."""
        started = time.monotonic()
        step = Step(title)
        if not self.console.is_terminal:
            self.console.print(f"{self._stamp()} {escape(title)} …")
        try:
            with self._spinner(title):
                yield step
        except BaseException:
            self.console.print(
                f"{self._stamp()} [red]✗[/] {escape(title)} [dim]({time.monotonic() - started:.1f} s)[/]"
            )
            raise
        told = f"{title}: {step.outcome}" if step.outcome else title
        mark = "[red]✗[/]" if step.failed else "[green]✓[/]"
        self.console.print(f"{self._stamp()} {mark} {escape(told)} [dim]({time.monotonic() - started:.1f} s)[/]")

    def line(self, text: str) -> None:
        """One line of detail."""
        self.console.print(f"         [dim]{escape(text)}[/]")

    @contextmanager
    def reading(self, file: BinaryIO, size_bytes: int, title: str) -> Iterator[BinaryIO]:
        """The file, with a bar that shows how much of it was read."""
        columns = (
            TextColumn("         {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        )  # fmt: skip
        if not self.console.is_terminal:
            yield file
            return
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield progress.wrap_file(file, total=size_bytes, description=escape(title))

    def _stamp(self) -> str:
        return f"[dim]{self.seconds:6.1f} s[/]"

    def _spinner(self, title: str) -> Status:
        return self.console.status(escape(title))


class Step:
    """One step of a report; what it found out goes into `outcome`."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.outcome = ""
        self.failed = False
        """whether it came to an end and found something wrong"""
