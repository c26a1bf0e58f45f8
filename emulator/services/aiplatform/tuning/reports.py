"""What a trial reports of its metrics, through the file that cloudml-hypertune writes.

The file holds the last hundred reports, one JSON object a line, and is written anew with each; its folder belongs
to the trial's program, so nothing that is found in it is trusted.

Source: https://github.com/GoogleCloudPlatform/cloudml-hypertune
"""

from __future__ import annotations

import json
import math
import os
import stat
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from selfloop_apis.aiplatform_v1 import Measurement, StudySpec

from emulator.services.aiplatform.tuning.search import is_minimized

_MOST_BYTES = 1 << 20
#: Steps kept of one trial; a job's resource holds them all.
_MOST_STEPS = 1000


class TrialReports:
    """The measurements of one trial, by step, as far as they were seen."""

    def __init__(self, file: Path, metrics: Sequence[Any], started: float) -> None:
        """metrics: the study's, `StudySpec.metrics`. started: when the trial began, on the machine's clock."""
        self._file = file
        self._metrics = metrics
        self._started = started
        self._steps: dict[int, dict[str, float]] = {}
        self._seconds: dict[int, float] = {}
        self._seen: tuple[int, int] | None = None

    def look(self) -> bool:
        """Take in what is new; gives back whether there was anything."""
        added = [self._add(report) for report in self._read()]
        return any(added)

    @property
    def measurements(self) -> list[Measurement]:
        """Those that have a value for every metric, in the order of their steps."""
        names = [metric.metric_id for metric in self._metrics]
        return [self._measurement(step) for step in sorted(self._steps) if all(n in self._steps[step] for n in names)]

    def final(self, selection: int) -> Measurement | None:
        """The one that stands for the trial: the last, or by the first metric the best; None without any."""
        found = self.measurements
        if not found:
            return None
        if selection != StudySpec.MeasurementSelectionType.BEST_MEASUREMENT:
            return found[-1]
        return best(found, self._metrics[0])

    def _read(self) -> Iterator[dict[str, Any]]:
        try:
            descriptor = os.open(self._file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            mark = (status.st_mtime_ns, status.st_size)
            if not stat.S_ISREG(status.st_mode) or mark == self._seen:
                return
            self._seen = mark
            text = opened.read(_MOST_BYTES)
        for line in text.splitlines():
            try:
                report = json.loads(line)
            except (ValueError, RecursionError):
                continue  # not written to its end yet, or no report at all
            if isinstance(report, dict):
                yield report

    def _add(self, report: dict[str, Any]) -> bool:
        try:
            step = int(report.get("global_step", 0))
            seconds = float(report.get("timestamp", self._started)) - self._started
            values = {m.metric_id: float(report[m.metric_id]) for m in self._metrics if m.metric_id in report}
        except (TypeError, ValueError, OverflowError):
            return False
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        if not values or not 0 <= step < 2**63 or (step not in self._steps and len(self._steps) >= _MOST_STEPS):
            return False
        self._steps.setdefault(step, {}).update(values)
        self._seconds[step] = min(max(seconds, 0.0), 1e9) if math.isfinite(seconds) else 0.0
        return True

    def _measurement(self, step: int) -> Measurement:
        measurement = Measurement(step_count=step)
        measurement.elapsed_duration.FromMilliseconds(round(self._seconds[step] * 1000))
        for metric in self._metrics:
            measurement.metrics.add(metric_id=metric.metric_id, value=self._steps[step][metric.metric_id])
        return measurement


def values_of(measurement: Measurement) -> list[float]:
    """A measurement's values, in the order of the study's metrics."""
    return [metric.value for metric in measurement.metrics]


def best(measurements: Sequence[Measurement], metric: Any) -> Measurement:
    """The best by the study's first metric; of equals the first."""
    sign = -1.0 if is_minimized(metric) else 1.0
    return max(measurements, key=lambda measurement: sign * measurement.metrics[0].value)


def falls_behind(
    own: Sequence[Measurement], completed: Sequence[Sequence[Measurement]], metric: Any, *, by_duration: bool
) -> bool:
    """Whether a trial's best value lies below the median of what the completed ones had on average at its point.

    own: the trial's measurements; completed: those of each trial that succeeded, in the order of their steps.
    by_duration: points are compared by the time since the start, not by steps.

    Source: the comment of StudySpec.MedianAutomatedStoppingSpec
    """

    def point(measurement: Measurement) -> float:
        return measurement.elapsed_duration.ToMilliseconds() if by_duration else measurement.step_count

    if not own:
        return False
    sign = -1.0 if is_minimized(metric) else 1.0
    averages = []
    for measurements in completed:
        until = [sign * m.metrics[0].value for m in measurements if point(m) <= point(own[-1])]
        if until:
            averages.append(math.fsum(until) / len(until))
    if not averages:
        return False
    return sign * best(own, metric).metrics[0].value < statistics.median(averages)
