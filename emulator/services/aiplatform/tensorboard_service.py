"""Vertex AI TensorboardService: what training reports step by step.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1#tensorboardservice
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from google.api_core.exceptions import InvalidArgument, NotFound
from selfloop_apis import aiplatform_v1 as v1
from selfloop_apis import protobuf

from emulator.core import filters, pagination
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform.names import location_of, new_parent
from emulator.services.aiplatform.tensorboards.tree import T, Tensorboards

#: Points in one answer. Source: the comments of TensorboardService
_MOST_SCALARS = 1000
_MOST_OTHERS = 100
_EXPORT_PAGE, _LARGEST_EXPORT_PAGE = 1000, 10_000
_MOST_IN_A_BATCH = 1000
_FILTERABLE = ("name", "display_name", "create_time", "update_time", "description")


class TensorboardService(GapicService):
    api = "google.cloud.aiplatform.v1.TensorboardService"

    def __init__(self, *, tree: Tensorboards, projects: Projects, operations: Operations) -> None:
        self._tree = tree
        self._projects = projects
        self._operations = operations

    # TensorBoards.

    def create_tensorboard(self, request: v1.CreateTensorboardRequest, context: Context) -> Any:
        location = new_parent(self._projects, request.parent)
        made = self._tree.create_tensorboard(location.parent, request.tensorboard)
        # The service answers with what was given, not with what it has filled in.
        response = v1.Tensorboard()
        response.CopyFrom(request.tensorboard)
        response.name = made.name
        return self._operations.finished(made.name, v1.CreateTensorboardOperationMetadata(), response, context)

    def get_tensorboard(self, request: v1.GetTensorboardRequest, context: Context) -> v1.Tensorboard:
        return self._tree.get(self._tree.tensorboards, request.name, 1)

    def list_tensorboards(self, request: v1.ListTensorboardsRequest, context: Context) -> v1.ListTensorboardsResponse:
        parent = location_of(self._projects, request.parent).parent
        page = self._page(
            self._tree.tensorboards.list(parent),
            request,
            v1.Tensorboard,
            "labels",
            "is_default",
            default_size=100,
            largest_size=100,
        )
        return v1.ListTensorboardsResponse(tensorboards=page.items, next_page_token=page.next_page_token)

    def update_tensorboard(self, request: v1.UpdateTensorboardRequest, context: Context) -> Any:
        tree = self._tree
        changed = tree.update(tree.tensorboards, request.tensorboard, 1, request.update_mask.paths)
        parent = location_of(self._projects, changed.name).parent
        return self._operations.finished(parent, v1.UpdateTensorboardOperationMetadata(), changed, context)

    def delete_tensorboard(self, request: v1.DeleteTensorboardRequest, context: Context) -> Any:
        """Delete a TensorBoard with all that is in it."""
        self._tree.delete_tensorboard(request.name)
        return self._deleted(location_of(self._projects, request.name).parent, context)

    def read_tensorboard_size(
        self, request: v1.ReadTensorboardSizeRequest, context: Context
    ) -> v1.ReadTensorboardSizeResponse:
        name = self._tree.get(self._tree.tensorboards, request.tensorboard, 1).name
        return v1.ReadTensorboardSizeResponse(storage_size_byte=self._tree.points.size(name))

    # Experiments.

    def create_tensorboard_experiment(
        self, request: v1.CreateTensorboardExperimentRequest, context: Context
    ) -> v1.TensorboardExperiment:
        experiment = request.tensorboard_experiment
        return self._tree.create_experiment(request.parent, experiment, request.tensorboard_experiment_id)

    def get_tensorboard_experiment(
        self, request: v1.GetTensorboardExperimentRequest, context: Context
    ) -> v1.TensorboardExperiment:
        return self._tree.get(self._tree.experiments, request.name, 2)

    def list_tensorboard_experiments(
        self, request: v1.ListTensorboardExperimentsRequest, context: Context
    ) -> v1.ListTensorboardExperimentsResponse:
        parent = self._tree.get(self._tree.tensorboards, request.parent, 1).name
        page = self._page(self._tree.experiments.list(parent), request, v1.TensorboardExperiment, "labels", "source")
        return v1.ListTensorboardExperimentsResponse(
            tensorboard_experiments=page.items, next_page_token=page.next_page_token
        )

    def update_tensorboard_experiment(
        self, request: v1.UpdateTensorboardExperimentRequest, context: Context
    ) -> v1.TensorboardExperiment:
        tree = self._tree
        return tree.update(tree.experiments, request.tensorboard_experiment, 2, request.update_mask.paths)

    def delete_tensorboard_experiment(self, request: v1.DeleteTensorboardExperimentRequest, context: Context) -> Any:
        self._tree.delete_experiment(request.name)
        return self._deleted(self._tensorboard_of(request.name, 2), context)

    # Runs.

    def create_tensorboard_run(self, request: v1.CreateTensorboardRunRequest, context: Context) -> v1.TensorboardRun:
        return self._tree.create_run(request.parent, request.tensorboard_run, request.tensorboard_run_id)

    def batch_create_tensorboard_runs(
        self, request: v1.BatchCreateTensorboardRunsRequest, context: Context
    ) -> v1.BatchCreateTensorboardRunsResponse:
        """Create all of them, or none."""
        _check_batch(len(request.requests))
        parent = self._tree.name(request.parent, 2)
        made = v1.BatchCreateTensorboardRunsResponse()
        with self._tree.transaction():
            for one in request.requests:
                if self._tree.name(one.parent, 2) != parent:
                    raise InvalidArgument(f"The parent {one.parent} is not that of the batch, {request.parent}.")
                made.tensorboard_runs.append(self.create_tensorboard_run(one, context))
        return made

    def get_tensorboard_run(self, request: v1.GetTensorboardRunRequest, context: Context) -> v1.TensorboardRun:
        return self._tree.get(self._tree.runs, request.name, 3)

    def list_tensorboard_runs(
        self, request: v1.ListTensorboardRunsRequest, context: Context
    ) -> v1.ListTensorboardRunsResponse:
        parent = self._tree.get(self._tree.experiments, request.parent, 2).name
        page = self._page(self._tree.runs.list(parent), request, v1.TensorboardRun, "labels")
        return v1.ListTensorboardRunsResponse(tensorboard_runs=page.items, next_page_token=page.next_page_token)

    def update_tensorboard_run(self, request: v1.UpdateTensorboardRunRequest, context: Context) -> v1.TensorboardRun:
        return self._tree.update(self._tree.runs, request.tensorboard_run, 3, request.update_mask.paths)

    def delete_tensorboard_run(self, request: v1.DeleteTensorboardRunRequest, context: Context) -> Any:
        self._tree.delete_run(request.name)
        return self._deleted(self._tensorboard_of(request.name, 3), context)

    # Time series.

    def create_tensorboard_time_series(
        self, request: v1.CreateTensorboardTimeSeriesRequest, context: Context
    ) -> v1.TensorboardTimeSeries:
        series = request.tensorboard_time_series
        return self._tree.create_time_series(request.parent, series, request.tensorboard_time_series_id)

    def batch_create_tensorboard_time_series(
        self, request: v1.BatchCreateTensorboardTimeSeriesRequest, context: Context
    ) -> v1.BatchCreateTensorboardTimeSeriesResponse:
        """Create all of them, in runs of one experiment, or none."""
        _check_batch(len(request.requests))
        parent = self._tree.name(request.parent, 2)
        made = v1.BatchCreateTensorboardTimeSeriesResponse()
        with self._tree.transaction():
            for one in request.requests:
                if not self._tree.name(one.parent, 3).startswith(f"{parent}/runs/"):
                    raise InvalidArgument(f"The run {one.parent} is not below {request.parent}.")
                made.tensorboard_time_series.append(self.create_tensorboard_time_series(one, context))
        return made

    def get_tensorboard_time_series(
        self, request: v1.GetTensorboardTimeSeriesRequest, context: Context
    ) -> v1.TensorboardTimeSeries:
        return self._tree.get(self._tree.time_series, request.name, 4)

    def list_tensorboard_time_series(
        self, request: v1.ListTensorboardTimeSeriesRequest, context: Context
    ) -> v1.ListTensorboardTimeSeriesResponse:
        parent = self._tree.get(self._tree.runs, request.parent, 3).name
        page = self._page(
            self._tree.time_series.list(parent), request, v1.TensorboardTimeSeries, "value_type", "plugin_name"
        )
        return v1.ListTensorboardTimeSeriesResponse(
            tensorboard_time_series=page.items, next_page_token=page.next_page_token
        )

    def update_tensorboard_time_series(
        self, request: v1.UpdateTensorboardTimeSeriesRequest, context: Context
    ) -> v1.TensorboardTimeSeries:
        tree = self._tree
        return tree.update(tree.time_series, request.tensorboard_time_series, 4, request.update_mask.paths)

    def delete_tensorboard_time_series(self, request: v1.DeleteTensorboardTimeSeriesRequest, context: Context) -> Any:
        self._tree.delete_time_series(request.name)
        return self._deleted(self._tensorboard_of(request.name, 4), context)

    # Points.

    def write_tensorboard_experiment_data(
        self, request: v1.WriteTensorboardExperimentDataRequest, context: Context
    ) -> v1.WriteTensorboardExperimentDataResponse:
        """Write to several runs of one experiment: all, or nothing."""
        experiment = self._tree.get(self._tree.experiments, request.tensorboard_experiment, 2).name
        with self._tree.transaction():
            for one in request.write_run_data_requests:
                if not self._tree.name(one.tensorboard_run, 3).startswith(f"{experiment}/runs/"):
                    raise InvalidArgument(f"The run {one.tensorboard_run} is not below {experiment}.")
                self._tree.write(one.tensorboard_run, one.time_series_data)
        return v1.WriteTensorboardExperimentDataResponse()

    def write_tensorboard_run_data(
        self, request: v1.WriteTensorboardRunDataRequest, context: Context
    ) -> v1.WriteTensorboardRunDataResponse:
        self._tree.write(request.tensorboard_run, request.time_series_data)
        return v1.WriteTensorboardRunDataResponse()

    def read_tensorboard_time_series_data(
        self, request: v1.ReadTensorboardTimeSeriesDataRequest, context: Context
    ) -> v1.ReadTensorboardTimeSeriesDataResponse:
        """Up to max_data_points of a series' points, in the order of their steps; -1 for all."""
        series = self._tree.get(self._tree.time_series, request.tensorboard_time_series, 4)
        if request.max_data_points < -1:
            raise InvalidArgument("max_data_points must be positive, or -1 for all.")
        most = request.max_data_points or _most(series)
        test = _point_filter(request.filter) if request.filter else None
        points = self._tree.points.sample(series, self._tree.points.count(series.name) if most == -1 else most, test)
        return v1.ReadTensorboardTimeSeriesDataResponse(time_series_data=_data(series, points))

    def batch_read_tensorboard_time_series_data(
        self, request: v1.BatchReadTensorboardTimeSeriesDataRequest, context: Context
    ) -> v1.BatchReadTensorboardTimeSeriesDataResponse:
        """One entry for each series that is named, without values where it has none."""
        tensorboard = self._tree.get(self._tree.tensorboards, request.tensorboard, 1).name
        response = v1.BatchReadTensorboardTimeSeriesDataResponse()
        for name in request.time_series:
            series = self._tree.get(self._tree.time_series, name, 4)
            if not series.name.startswith(f"{tensorboard}/"):
                raise InvalidArgument(f"{series.name} is not below {tensorboard}.")
            response.time_series_data.append(_data(series, self._tree.points.sample(series, _most(series))))
        return response

    def export_tensorboard_time_series_data(
        self, request: v1.ExportTensorboardTimeSeriesDataRequest, context: Context
    ) -> v1.ExportTensorboardTimeSeriesDataResponse:
        """All points of a series, page by page, in the order of their steps."""
        series = self._tree.get(self._tree.time_series, request.tensorboard_time_series, 4)
        if request.page_size < 0:
            raise InvalidArgument("page_size must not be negative.")
        if request.order_by not in ("", "step", "step asc", "step desc"):
            raise InvalidArgument(f'Invalid order_by "{request.order_by[:200]}": points are ordered by step.')
        size = min(request.page_size or _EXPORT_PAGE, _LARGEST_EXPORT_PAGE)
        test = _point_filter(request.filter)
        points = self._tree.points.read(
            series, after=_step_of(request.page_token), descending=request.order_by == "step desc"
        )
        page = list(islice((point for point in points if test(point)), size + 1))
        response = v1.ExportTensorboardTimeSeriesDataResponse(time_series_data_points=page[:size])
        if len(page) > size:
            response.next_page_token = base64.urlsafe_b64encode(str(page[size - 1].step).encode()).decode()
        return response

    def read_tensorboard_blob_data(
        self, request: v1.ReadTensorboardBlobDataRequest, context: Context
    ) -> Iterator[v1.ReadTensorboardBlobDataResponse]:
        """The bytes of blobs that were written with them, a message for each."""
        series = self._tree.get(self._tree.time_series, request.time_series, 4)
        missing = set(request.blob_ids)
        for blob in self._tree.points.blobs(series.name, set(request.blob_ids)):
            missing.discard(blob.id)
            yield v1.ReadTensorboardBlobDataResponse(blobs=[blob])
        if missing:
            raise NotFound(f"{series.name} has no bytes of the blobs {', '.join(sorted(missing))}.")

    def _page(
        self,
        items: list[T],
        request: Any,
        message_type: type[T],
        *filterable: str,
        default_size: int = 50,
        largest_size: int = 1000,
    ) -> pagination.Page[T]:
        return pagination.page(
            items,
            request,
            message_type,
            filterable=(*_FILTERABLE, *filterable),
            canonical=self._projects.canonical,
            sortable=("name", "display_name", "create_time", "update_time"),
            default_size=default_size,
            largest_size=largest_size,
        )

    def _deleted(self, parent: str, context: Context) -> Any:
        return self._operations.finished(parent, v1.DeleteOperationMetadata(), protobuf.Empty(), context)

    def _tensorboard_of(self, name: str, depth: int) -> str:
        return "/".join(self._tree.name(name, depth).split("/")[:6])


def _most(series: v1.TensorboardTimeSeries) -> int:
    return _MOST_SCALARS if series.value_type == v1.TensorboardTimeSeries.SCALAR else _MOST_OTHERS


def _data(series: v1.TensorboardTimeSeries, points: Iterator[v1.TimeSeriesDataPoint]) -> v1.TimeSeriesData:
    series_id = series.name.rpartition("/")[2]
    return v1.TimeSeriesData(tensorboard_time_series_id=series_id, value_type=series.value_type, values=points)


def _point_filter(text: str) -> Callable[[v1.TimeSeriesDataPoint], bool]:
    return filters.compile(text, v1.TimeSeriesDataPoint, ("step", "wall_time"))


def _step_of(token: str) -> int | None:
    try:
        return int(base64.urlsafe_b64decode(token)) if token else None
    except ValueError:
        raise InvalidArgument("Invalid page_token.") from None


def _check_batch(size: int) -> None:
    if size > _MOST_IN_A_BATCH:
        raise InvalidArgument(f"A batch has at most {_MOST_IN_A_BATCH} requests.")
