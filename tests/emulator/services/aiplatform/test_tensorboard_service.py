"""TensorBoards through the official client, over both transports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, BadRequest, Conflict, NotFound
from google.cloud.aiplatform_v1 import (
    BatchCreateTensorboardRunsRequest,
    BatchCreateTensorboardTimeSeriesRequest,
    CreateTensorboardRunRequest,
    CreateTensorboardTimeSeriesRequest,
    ReadTensorboardBlobDataRequest,
    Scalar,
    Tensorboard,
    TensorboardBlob,
    TensorboardBlobSequence,
    TensorboardExperiment,
    TensorboardRun,
    TensorboardServiceClient,
    TensorboardTensor,
    TensorboardTimeSeries,
    TimeSeriesData,
    TimeSeriesDataPoint,
    WriteTensorboardRunDataRequest,
)
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import Emulator

Kind = TensorboardTimeSeries.ValueType


@pytest.fixture(params=["grpc", "rest"])
def boards(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[TensorboardServiceClient]:
    with emulator.client(TensorboardServiceClient, transport=request.param) as client:
        yield client


@pytest.fixture
def board(boards: TensorboardServiceClient, parent: str) -> str:
    return new_board(boards, parent)


@pytest.fixture
def run(boards: TensorboardServiceClient, board: str) -> str:
    experiment = boards.create_tensorboard_experiment(
        {"parent": board, "tensorboard_experiment_id": "exp", "tensorboard_experiment": {"display_name": "exp"}}
    )
    return str(
        boards.create_tensorboard_run(
            parent=experiment.name, tensorboard_run=TensorboardRun(display_name="one"), tensorboard_run_id="one"
        ).name
    )


def new_board(boards: TensorboardServiceClient, parent: str, **fields: Any) -> str:
    board = Tensorboard(display_name="a board", **fields)
    return str(boards.create_tensorboard(parent=parent, tensorboard=board).result().name)


def new_series(boards: TensorboardServiceClient, run: str, name: str = "loss", kind: int = Kind.SCALAR) -> str:
    series = TensorboardTimeSeries(display_name=name, value_type=kind, plugin_name="scalars")
    return str(boards.create_tensorboard_time_series(parent=run, tensorboard_time_series=series).name)


def point(step: int, **value: Any) -> TimeSeriesDataPoint:
    return TimeSeriesDataPoint(step=step, wall_time={"seconds": 1_700_000_000 + step, "nanos": 5}, **value)


def scalars(series: str, values: Iterable[tuple[int, float]], kind: int = Kind.SCALAR) -> TimeSeriesData:
    return TimeSeriesData(
        tensorboard_time_series_id=series.rpartition("/")[2],
        value_type=kind,
        values=[point(step, scalar=Scalar(value=value)) for step, value in values],
    )


def read(boards: TensorboardServiceClient, series: str, **request: Any) -> list[tuple[int, float]]:
    answer = boards.read_tensorboard_time_series_data({"tensorboard_time_series": series, **request})
    return [(one.step, one.scalar.value) for one in answer.time_series_data.values]


def test_board_is_created_read_changed_and_deleted(boards: TensorboardServiceClient, parent: str) -> None:
    operation = boards.create_tensorboard(parent=parent, tensorboard=Tensorboard(display_name="a", labels={"b": "c"}))
    made = operation.result()
    assert operation.operation.name.startswith(f"{made.name}/operations/")
    assert (made.display_name, made.etag, made.blob_storage_path_prefix) == ("a", "", "")
    kept = boards.get_tensorboard(name=made.name)
    assert kept.blob_storage_path_prefix.startswith("cloud-ai-platform-")
    changed = boards.update_tensorboard(
        tensorboard=Tensorboard(name=kept.name, display_name="z"), update_mask=FieldMask(paths=["display_name"])
    )
    assert changed.result().display_name == "z"
    assert dict(changed.result().labels) == {"b": "c"}
    with pytest.raises(Conflict, match="etag"):
        boards.update_tensorboard(tensorboard=kept, update_mask=FieldMask(paths=["display_name"]))
    assert boards.delete_tensorboard(name=kept.name).done()
    with pytest.raises(NotFound, match=r"is not found\."):
        boards.get_tensorboard(name=kept.name)
    with pytest.raises(BadRequest, match="Invalid Tensorboard resource name"):
        boards.get_tensorboard(name=f"{parent}/tensorboards/mine")


def test_one_board_is_the_default(boards: TensorboardServiceClient, parent: str) -> None:
    first, second = new_board(boards, parent, is_default=True), new_board(boards, parent, is_default=True)
    listed = boards.list_tensorboards({"parent": parent, "filter": "is_default=true"})
    assert [board.name for board in listed] == [second]
    boards.update_tensorboard(
        tensorboard=Tensorboard(name=first, is_default=True), update_mask=FieldMask(paths=["is_default"])
    ).result()
    assert not boards.get_tensorboard(name=second).is_default


def test_tree_below_a_board_is_listed_counted_and_deleted_with_it(
    boards: TensorboardServiceClient, board: str, run: str
) -> None:
    experiment = run.partition("/runs/")[0]
    series = new_series(boards, run)
    assert boards.get_tensorboard(name=board).run_count == 1
    assert [one.name for one in boards.list_tensorboard_experiments(parent=board)] == [experiment]
    assert [one.name for one in boards.list_tensorboard_runs(parent=experiment)] == [run]
    found = boards.list_tensorboard_time_series({"parent": run, "filter": 'display_name="loss"'})
    assert [one.name for one in found] == [series]
    with pytest.raises((AlreadyExists, Conflict), match="display name"):
        new_series(boards, run)
    with pytest.raises((AlreadyExists, Conflict)):
        boards.create_tensorboard_run(
            parent=experiment, tensorboard_run=TensorboardRun(display_name="two"), tensorboard_run_id="one"
        )
    boards.delete_tensorboard_experiment(name=experiment).result()
    for get, name in (
        (boards.get_tensorboard_experiment, experiment),
        (boards.get_tensorboard_run, run),
        (boards.get_tensorboard_time_series, series),
    ):
        with pytest.raises(NotFound):
            get(name=name)
    assert boards.get_tensorboard(name=board).run_count == 0
    assert boards.read_tensorboard_size(tensorboard=board).storage_size_byte == 0


def test_parents_and_ids_are_checked(boards: TensorboardServiceClient, board: str) -> None:
    with pytest.raises(NotFound, match="TensorboardExperiment"):
        boards.create_tensorboard_run(
            parent=f"{board}/experiments/none",
            tensorboard_run=TensorboardRun(display_name="r"),
            tensorboard_run_id="r",
        )
    with pytest.raises(BadRequest, match="tensorboard_experiment_id"):
        boards.create_tensorboard_experiment(
            parent=board, tensorboard_experiment=TensorboardExperiment(), tensorboard_experiment_id="No"
        )


def test_batches_create_all_or_nothing(boards: TensorboardServiceClient, run: str) -> None:
    experiment = run.partition("/runs/")[0]

    def asked(run_id: str) -> CreateTensorboardRunRequest:
        return CreateTensorboardRunRequest(
            parent=experiment, tensorboard_run_id=run_id, tensorboard_run=TensorboardRun(display_name=run_id)
        )

    made = boards.batch_create_tensorboard_runs(
        BatchCreateTensorboardRunsRequest(parent=experiment, requests=[asked("two"), asked("three")])
    )
    assert [one.display_name for one in made.tensorboard_runs] == ["two", "three"]
    with pytest.raises((AlreadyExists, Conflict)):
        boards.batch_create_tensorboard_runs(parent=experiment, requests=[asked("four"), asked("one")])
    assert len(list(boards.list_tensorboard_runs(parent=experiment))) == 3
    series = TensorboardTimeSeries(display_name="loss", value_type=Kind.SCALAR)
    requests = [
        CreateTensorboardTimeSeriesRequest(parent=one.name, tensorboard_time_series=series)
        for one in made.tensorboard_runs
    ]
    answer = boards.batch_create_tensorboard_time_series(
        BatchCreateTensorboardTimeSeriesRequest(parent=experiment, requests=requests)
    )
    assert len(answer.tensorboard_time_series) == 2


def test_points_come_back_by_step_and_a_step_written_twice_is_replaced(
    boards: TensorboardServiceClient, board: str, run: str
) -> None:
    series, empty = new_series(boards, run), new_series(boards, run, "empty")
    boards.write_tensorboard_run_data(
        tensorboard_run=run, time_series_data=[scalars(series, [(3, 0.3), (1, 0.1), (2, math.nan)])]
    )
    boards.write_tensorboard_experiment_data(
        tensorboard_experiment=run.partition("/runs/")[0],
        write_run_data_requests=[
            WriteTensorboardRunDataRequest(tensorboard_run=run, time_series_data=[scalars(series, [(3, 9.0)])])
        ],
    )
    steps = read(boards, series)
    assert [step for step, _ in steps] == [1, 2, 3]
    assert (steps[0][1], math.isnan(steps[1][1]), steps[2][1]) == (0.1, True, 9.0)
    assert read(boards, series, filter="step > 2") == [(3, 9.0)]
    kept: Any = boards.get_tensorboard_time_series(name=series).metadata
    assert (kept.max_step, kept.max_wall_time.timestamp()) == (3, pytest.approx(1_700_000_003))
    # One entry for each that is named: the SDK fails on fewer.
    both = boards.batch_read_tensorboard_time_series_data({"tensorboard": board, "time_series": [series, empty]})
    assert [len(one.values) for one in both.time_series_data] == [3, 0]
    assert boards.read_tensorboard_size(tensorboard=board).storage_size_byte > 0


def test_long_series_are_sampled_and_exported_by_pages(boards: TensorboardServiceClient, run: str) -> None:
    series = new_series(boards, run)
    boards.write_tensorboard_run_data(
        tensorboard_run=run, time_series_data=[scalars(series, [(step, float(step)) for step in range(2500)])]
    )
    sampled = read(boards, series)
    assert (len(sampled), sampled[0][0], sampled[-1][0]) == (1000, 0, 2499)
    assert len(read(boards, series, max_data_points=-1)) == 2500
    assert [step for step, _ in read(boards, series, max_data_points=3)] == [0, 1250, 2499]
    pages = boards.export_tensorboard_time_series_data({"tensorboard_time_series": series, "page_size": 1100}).pages
    assert [len(page.time_series_data_points) for page in pages] == [1100, 1100, 300]
    with pytest.raises(BadRequest):
        boards.export_tensorboard_time_series_data({"tensorboard_time_series": series, "page_token": "?"})


def test_tensors_and_blobs_are_kept(boards: TensorboardServiceClient, run: str) -> None:
    tensors = new_series(boards, run, "weights", Kind.TENSOR)
    blobs = new_series(boards, run, "images", Kind.BLOB_SEQUENCE)
    sequence = TensorboardBlobSequence(values=[TensorboardBlob(data=b"PNG"), TensorboardBlob(id="elsewhere")])
    data = [
        TimeSeriesData(tensorboard_time_series_id=name.rpartition("/")[2], value_type=kind, values=[point(1, **value)])
        for name, kind, value in (
            (tensors, Kind.TENSOR, {"tensor": TensorboardTensor(value=b"\0\1", version_number=2)}),
            (blobs, Kind.BLOB_SEQUENCE, {"blobs": sequence}),
        )
    ]
    boards.write_tensorboard_run_data(tensorboard_run=run, time_series_data=data)
    tensor = boards.read_tensorboard_time_series_data(tensorboard_time_series=tensors).time_series_data.values[0]
    assert tensor.tensor.value == b"\0\1"
    read_back = boards.read_tensorboard_time_series_data(tensorboard_time_series=blobs).time_series_data.values[0]
    first, second = read_back.blobs.values
    assert (first.data, second.id) == (b"", "elsewhere")
    answer = boards.read_tensorboard_blob_data(ReadTensorboardBlobDataRequest(time_series=blobs, blob_ids=[first.id]))
    assert [blob.data for part in answer for blob in part.blobs] == [b"PNG"]
    assert boards.get_tensorboard_time_series(name=blobs).metadata.max_blob_sequence_length == 2


def test_bad_writes_change_nothing(boards: TensorboardServiceClient, run: str) -> None:
    series = new_series(boards, run)
    good = scalars(series, [(1, 1.0)])
    for bad, error in (
        (scalars("x/timeSeries/404", [(1, 1.0)]), NotFound),
        (scalars(series, [(2, 1.0)], Kind.TENSOR), BadRequest),
        (scalars(series, [(step, 1.0) for step in range(5001)]), BadRequest),
    ):
        with pytest.raises(error):
            boards.write_tensorboard_run_data(tensorboard_run=run, time_series_data=[good, bad])
    assert read(boards, series) == []
