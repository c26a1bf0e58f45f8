"""How Vertex AI words the end of a job that did not succeed.

Source: https://cloud.google.com/vertex-ai/docs/general/troubleshooting and published errors of real jobs
"""

from __future__ import annotations

import signal
from enum import IntEnum
from typing import Any
from urllib.parse import quote

from selfloop_apis import rpc

from emulator.core.interfaces import ContainerResult, ExitReason
from emulator.services.aiplatform.names import Location


class Code(IntEnum):
    """Those of google.rpc.Code that jobs end with."""

    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    FAILED_PRECONDITION = 9
    ABORTED = 10
    INTERNAL = 13


#: Of a replica's standard error, the part that an error repeats.
_MOST_CHARACTERS = 1200
_TRACEBACK = "Traceback (most recent call last):"


def failure(failed: list[tuple[str, ContainerResult]], location: Location, job_id: str, timeout_seconds: float) -> Any:
    """The error of a job some of whose replicas failed.

    failed: replicas' names with their ends, in the order in which they ended.
    timeout_seconds: the job's, in case that was the reason.
    """
    if any(result.reason is ExitReason.TIMED_OUT for _, result in failed):
        return status(Code.DEADLINE_EXCEEDED, f"The job ran longer than the timeout of {timeout_seconds:.0f} seconds.")
    if all(result.reason is ExitReason.LOST for _, result in failed):
        names = ", ".join(name for name, _ in failed)
        return status(Code.INTERNAL, f"Internal error: the machine of replica {names} was lost.")
    told = "\n".join(_sentence(name, result) for name, result in failed)
    url = logs_url(location, job_id)
    return status(
        Code.INVALID_ARGUMENT,
        f"{told}\n\nTo find out more about why your job exited please check the logs: {url}",
    )


def cancelled() -> Any:
    return status(Code.CANCELLED, "CANCELED")


def interrupted(noun: str) -> Any:
    """For what was running when the emulator ended."""
    return status(Code.ABORTED, f"The emulator stopped while this {noun} was running.")


def status(code: int, message: str) -> Any:
    return rpc.Status(code=int(code), message=message)


def logs_url(location: Location, job_id: str) -> str:
    """The page of the console that shows a job's log."""
    query = f'resource.type="ml_job"\nresource.labels.job_id="{job_id}"'
    return (
        f"https://console.cloud.google.com/logs/viewer?project={location.project_number}"
        f"&resource={quote(f'ml_job/job_id/{job_id}', safe='')}&advancedFilter={quote(query, safe='')}"
    )


def shorten(stderr: str) -> str:
    """The last traceback, or else the end, its middle replaced by `[...]` where it is long."""
    text = stderr.strip("\n")
    start = text.rfind(f"\n{_TRACEBACK}") + 1
    head = ""
    if text.startswith(_TRACEBACK, start):
        text = text[start:]
        head = f"{_TRACEBACK}\n  "
    if len(text) <= _MOST_CHARACTERS:
        return text
    end = text[-_MOST_CHARACTERS:]
    # Whole lines, unless one line is longer than all that may be shown.
    return f"{head}[...]\n{end.partition(chr(10))[2] or end}"


def _sentence(name: str, result: ContainerResult) -> str:
    if result.reason is ExitReason.OUT_OF_MEMORY:
        return f"The replica {name} ran out-of-memory and exited with a non-zero status of 9(SIGKILL)."
    told = (
        f"The replica {name} exited with a non-zero status of {_exit_status(result.exit_code)}. "
        f"Termination reason: {result.reason.value}. "
    )
    details = [result.message] if result.message else []
    if result.stderr_tail.strip():
        details.append(shorten(result.stderr_tail))
    return "\n".join([told, *details])


def _exit_status(code: int) -> str:
    """`9(SIGKILL)` after a signal, otherwise the number."""
    try:
        return f"{code - 128}({signal.Signals(code - 128).name})"
    except ValueError:
        return str(code)
