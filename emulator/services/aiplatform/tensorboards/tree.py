"""The tree of TensorBoards: each holds experiments, these hold runs, and these hold time series."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from google.api_core.exceptions import AlreadyExists, InvalidArgument, NotFound
from selfloop_apis.aiplatform_v1 import (
    Tensorboard,
    TensorboardExperiment,
    TensorboardRun,
    TensorboardTimeSeries,
    TimeSeriesData,
)

from emulator.core import field_masks
from emulator.core.clock import Clock
from emulator.core.ids import new_etag, new_id
from emulator.core.messages import as_datetime, stamp
from emulator.core.projects import Projects
from emulator.core.state import Collection, Database
from emulator.services.aiplatform.model_resources import check_etag
from emulator.services.aiplatform.names import resource_name
from emulator.services.aiplatform.tensorboards.points import Points
from emulator.services.aiplatform.validation import FoundErrors

T = TypeVar("T", Tensorboard, TensorboardExperiment, TensorboardRun, TensorboardTimeSeries)

#: Source: the comments of the create requests, and of WriteTensorboardRunDataRequest
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_MOST_POINTS = 5000
_MOST_PLUGIN_BYTES = 65 * 1024
#: The collections in a name, from the top.
_FOLDERS = ("tensorboards", "experiments", "runs", "timeSeries")
_FIELDS: Mapping[TensorboardTimeSeries.ValueType.ValueType, str] = {
    TensorboardTimeSeries.SCALAR: "scalar",
    TensorboardTimeSeries.TENSOR: "tensor",
    TensorboardTimeSeries.BLOB_SEQUENCE: "blobs",
}
_UPDATABLE = (
    "display_name",
    "description",
    "labels",
    "is_default",
    "plugin_data",
    "value_type",
    "source",
    "plugin_name",
)


class Tensorboards:
    """Every resource of the tree by full name, and the points of its leaves."""

    def __init__(self, database: Database, clock: Clock, projects: Projects) -> None:
        self._database = database
        self._clock = clock
        self._projects = projects
        self.points = Points(database)
        self.tensorboards = Collection(database, Tensorboard)
        self.experiments = Collection(database, TensorboardExperiment)
        self.runs = Collection(database, TensorboardRun)
        self.time_series = Collection(database, TensorboardTimeSeries)
        self.transaction = database.transaction

    def name(self, name: str, depth: int) -> str:
        """The canonical name of something at a depth: 1 for a TensorBoard, 4 for a time series.

        Raises InvalidArgument, in the service's words.
        """
        canonical = resource_name(self._projects, name, *_FOLDERS[:depth])
        if not canonical.split("/")[5].isdecimal():
            raise InvalidArgument("List of found errors:\t1.Field: name; Message: Invalid Tensorboard resource name.\t")
        return canonical

    def get(self, collection: Collection[T], name: str, depth: int) -> T:
        """Raises NotFound, in the service's words, InvalidArgument."""
        canonical = self.name(name, depth)
        found = collection.find(canonical)
        if found is None:
            raise NotFound(f"{collection.noun} {canonical} is not found.")
        return found

    def create_tensorboard(self, parent: str, given: Tensorboard) -> Tensorboard:
        """parent: `projects/N/locations/L`."""
        tensorboard = _copy(given)
        tensorboard.name = f"{parent}/tensorboards/{new_id()}"
        tensorboard.blob_storage_path_prefix = f"cloud-ai-platform-{uuid4()}"
        with self.transaction():
            stored = self._insert(self.tensorboards, tensorboard)
            self._keep_one_default(stored)
        return stored

    def create_experiment(self, parent: str, given: TensorboardExperiment, asked_id: str) -> TensorboardExperiment:
        experiment = _copy(given)
        with self.transaction():
            tensorboard = self.get(self.tensorboards, parent, 1)
            experiment.name = f"{tensorboard.name}/experiments/{_checked(asked_id, 'tensorboard_experiment_id')}"
            return self._insert(self.experiments, experiment)

    def create_run(self, parent: str, given: TensorboardRun, asked_id: str) -> TensorboardRun:
        run = _copy(given)
        with self.transaction():
            experiment = self.get(self.experiments, parent, 2)
            run.name = f"{experiment.name}/runs/{_checked(asked_id, 'tensorboard_run_id')}"
            _check_unique(run, self.runs.list(experiment.name))
            made = self._insert(self.runs, run)
            self._count_runs(made.name, 1)
        return made

    def create_time_series(self, parent: str, given: TensorboardTimeSeries, asked_id: str) -> TensorboardTimeSeries:
        series = _copy(given)
        if series.value_type == TensorboardTimeSeries.VALUE_TYPE_UNSPECIFIED:
            raise InvalidArgument("The value_type of a TensorboardTimeSeries must be specified.")
        if len(series.plugin_data) > _MOST_PLUGIN_BYTES:
            raise InvalidArgument(f"plugin_data must have at most {_MOST_PLUGIN_BYTES} bytes.")
        with self.transaction():
            run = self.get(self.runs, parent, 3)
            series_id = _checked(asked_id, "tensorboard_time_series_id") if asked_id else new_id()
            series.name = f"{run.name}/timeSeries/{series_id}"
            _check_unique(series, self.time_series.list(run.name))
            return self._insert(self.time_series, series)

    def update(self, collection: Collection[T], given: T, depth: int, mask: Iterable[str]) -> T:
        """Change what a mask names. Raises NotFound, Aborted for a stale etag, InvalidArgument."""

        def change(stored: T) -> None:
            check_etag(given.etag, stored.etag)
            field_masks.update(stored, given, mask, _UPDATABLE)
            _check(stored)
            stored.etag = new_etag()
            stamp(stored.update_time, self._clock.now())

        with self.transaction():
            name = self.get(collection, given.name, depth).name
            changed = collection.update(name, change)
            if isinstance(changed, Tensorboard):
                self._keep_one_default(changed)
            elif not isinstance(changed, TensorboardExperiment):
                _check_unique(changed, collection.list(name.rsplit("/", 2)[0]))
        return changed

    # Deleting takes what is below along.

    def delete_tensorboard(self, name: str) -> None:
        with self.transaction():
            tensorboard = self.get(self.tensorboards, name, 1)
            for experiment in self.experiments.list(tensorboard.name):
                self.delete_experiment(experiment.name)
            self.tensorboards.delete(tensorboard.name)

    def delete_experiment(self, name: str) -> None:
        with self.transaction():
            experiment = self.get(self.experiments, name, 2)
            for run in self.runs.list(experiment.name):
                self.delete_run(run.name)
            self.experiments.delete(experiment.name)

    def delete_run(self, name: str) -> None:
        with self.transaction():
            run = self.get(self.runs, name, 3)
            for series in self.time_series.list(run.name):
                self.delete_time_series(series.name)
            self.runs.delete(run.name)
            self._count_runs(run.name, -1)

    def delete_time_series(self, name: str) -> None:
        with self.transaction():
            series = self.get(self.time_series, name, 4)
            self.points.delete(series.name)
            self.time_series.delete(series.name)

    def write(self, run: str, data: Iterable[TimeSeriesData]) -> None:
        """Add points to the time series of a run: all, or none. Raises NotFound, InvalidArgument."""
        given = list(data)
        if sum(len(one.values) for one in given) > _MOST_POINTS:
            raise InvalidArgument(f"At most {_MOST_POINTS} data points can be written at a time.")
        with self.transaction():
            parent = self.get(self.runs, run, 3).name
            for one in given:
                series = self.get(self.time_series, f"{parent}/timeSeries/{one.tensorboard_time_series_id}", 4)
                _check_points(series, one)
                self.points.write(series.name, one.values)
                self.time_series.update(series.name, partial(_note_extremes, one))

    def _insert(self, collection: Collection[T], resource: T) -> T:
        _check(resource)
        stamp(resource.create_time, self._clock.now())
        resource.update_time.CopyFrom(resource.create_time)
        resource.etag = new_etag()
        return collection.insert(resource)

    def _keep_one_default(self, changed: Tensorboard) -> None:
        """A TensorBoard that is made the default takes the others' place."""
        if not changed.is_default:
            return
        for other in self.tensorboards.list(changed.name.partition("/tensorboards/")[0]):
            if other.is_default and other.name != changed.name:
                self.tensorboards.update(other.name, _no_default)

    def _count_runs(self, run: str, change: int) -> None:
        def add(tensorboard: Tensorboard) -> None:
            tensorboard.run_count += change

        self.tensorboards.update("/".join(run.split("/")[:6]), add)


def _no_default(tensorboard: Tensorboard) -> None:
    tensorboard.is_default = False


def _copy(given: T) -> T:
    copy = type(given)()
    copy.CopyFrom(given)
    return copy


def _checked(asked_id: str, field: str) -> str:
    if not _ID.fullmatch(asked_id):
        raise InvalidArgument(f"{field} must be 1 to 128 of a-z, 0-9 and -, no hyphen first, not {asked_id!r}.")
    return asked_id


def _check(resource: Any) -> None:
    errors = FoundErrors()
    errors.check_display_name(resource.display_name)
    if not isinstance(resource, TensorboardTimeSeries):
        errors.check_labels(
            {key: value for key, value in resource.labels.items() if not key.startswith("aiplatform.googleapis.com/")}
        )
    errors.raise_any()


def _check_unique(resource: Any, siblings: Iterable[Any]) -> None:
    """Raises AlreadyExists when another one of the same parent has the display name."""
    for other in siblings:
        if other.display_name == resource.display_name and other.name != resource.name:
            noun = type(resource).DESCRIPTOR.name
            raise AlreadyExists(f'There is a {noun} with the display name "{resource.display_name}": {other.name}.')


def _check_points(series: TensorboardTimeSeries, data: TimeSeriesData) -> None:
    field = _FIELDS[series.value_type]
    if data.value_type != series.value_type or any(point.WhichOneof("value") != field for point in data.values):
        kind = TensorboardTimeSeries.ValueType.Name(series.value_type)
        raise InvalidArgument(f"The values of {series.name} must all be of type {kind}.")


def _note_extremes(data: TimeSeriesData, series: TensorboardTimeSeries) -> None:
    """What the series tells of its points."""
    metadata = series.metadata
    for point in data.values:
        metadata.max_step = max(metadata.max_step, point.step)
        if as_datetime(point.wall_time) > as_datetime(metadata.max_wall_time):
            metadata.max_wall_time.CopyFrom(point.wall_time)
        metadata.max_blob_sequence_length = max(metadata.max_blob_sequence_length, len(point.blobs.values))
