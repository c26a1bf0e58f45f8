"""Vertex AI Experiments as users write them: the SDK, over gRPC and REST."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import Conflict, NotFound
from google.cloud import aiplatform
from google.cloud.aiplatform.metadata.schema.google import artifact_schema
from google.cloud.aiplatform.metadata.schema.system import execution_schema

from tests.conftest import LOCATION, Emulator

#: The SDK makes a client for every resource, which over REST takes it a while: once for each kind of call will do.
both_transports = pytest.mark.parametrize("transport", ["grpc", "rest"])


@pytest.fixture
def transport() -> str:
    return "grpc"


@pytest.fixture
def init(emulator: Emulator, transport: str, project: str) -> Iterator[Any]:
    """`aiplatform.init` of this test's project; gives back the module."""

    def init(**options: Any) -> Any:
        aiplatform.init(project=project, location=LOCATION, api_transport=transport, **options)
        return aiplatform

    yield init
    tracker = aiplatform.metadata.metadata._experiment_tracker
    tracker.reset()
    tracker._global_tensorboard = None


@both_transports
def test_run_keeps_parameters_metrics_and_state(init: Any) -> None:
    sdk = init(experiment="taxi", experiment_description="tips", experiment_tensorboard=False)
    with sdk.start_run("first") as run:
        sdk.log_params({"depth": 3, "kind": "forest"})
        sdk.log_params({"depth": 4})
        sdk.log_metrics({"accuracy": 0.5})
        sdk.log_metrics({"accuracy": 0.75, "loss": 1})
        assert run.get_state() == "RUNNING"
    again = sdk.ExperimentRun("first", experiment="taxi")
    assert again.get_params() == {"depth": 4, "kind": "forest"}
    assert again.get_metrics() == {"accuracy": 0.75, "loss": 1}
    assert again.get_state() == "COMPLETE"
    with pytest.raises(Conflict, match="taxi-first` already exists"):
        sdk.start_run("first")
    sdk.start_run("first", resume=True)
    sdk.log_metrics({"late": 2.5})
    sdk.end_run(state=sdk.gapic.Execution.State.FAILED)
    assert sdk.ExperimentRun("first", experiment="taxi").get_state() == "FAILED"
    assert sdk.Experiment("taxi").resource_name.endswith("/contexts/taxi")


def test_time_series_go_to_the_backing_tensorboard(init: Any) -> None:
    sdk = init(experiment="taxi")
    sdk.start_run("first")
    for loss in (3.0, 2.0, 1.0):
        sdk.log_time_series_metrics({"loss": loss})
    sdk.log_time_series_metrics({"loss": 0.5, "accuracy": 0.9}, step=10)
    run = sdk.ExperimentRun("first", experiment="taxi")
    sdk.end_run()
    frame = run.get_time_series_data_frame()
    assert list(frame["step"]) == [1, 2, 3, 10]
    assert list(frame["loss"]) == [3.0, 2.0, 1.0, 0.5]
    assert frame["accuracy"].dropna().tolist() == [0.9]
    board = sdk.Experiment("taxi").get_backing_tensorboard_resource()
    assert sdk.Tensorboard(board.resource_name).gca_resource.is_default
    assert [one.display_name for one in sdk.TensorboardExperiment.list(board.resource_name)] == ["taxi"]


@both_transports
def test_data_frame_has_a_row_for_each_run(init: Any) -> None:
    sdk = init(experiment="taxi")
    for number in range(2):
        with sdk.start_run(f"run-{number}"):
            sdk.log_params({"depth": number})
            sdk.log_metrics({"accuracy": number / 4})
            sdk.log_time_series_metrics({"loss": 1.0 - number}, step=1)
    frame = sdk.get_experiment_df("taxi").set_index("run_name").sort_index()
    assert list(frame.index) == ["run-0", "run-1"]
    assert set(frame["run_type"]) == {"system.ExperimentRun"}
    assert set(frame["state"]) == {"COMPLETE"}
    assert list(frame["param.depth"]) == [0, 1]
    assert list(frame["metric.accuracy"]) == [0, 0.25]
    assert list(frame["time_series_metric.loss"]) == [1.0, 0.0]


def test_classification_metrics_are_an_artifact_of_the_run(init: Any) -> None:
    sdk = init(experiment="taxi", experiment_tensorboard=False)
    with sdk.start_run("first") as run:
        sdk.log_classification_metrics(
            labels=["no", "yes"], matrix=[[8, 2], [1, 9]], fpr=[0.0, 1.0], tpr=[0.0, 1.0], threshold=[0.9, 0.1],
            display_name="confusion",
        )  # fmt: skip
        (metrics,) = run.get_classification_metrics()
    assert metrics["labels"] == ["no", "yes"]
    assert metrics["matrix"] == [[8.0, 2.0], [1.0, 9.0]]
    assert metrics["threshold"] == pytest.approx([0.9, 0.1])


@both_transports
def test_executions_tie_their_inputs_to_their_outputs(init: Any) -> None:
    sdk = init(experiment="taxi", experiment_tensorboard=False)
    sdk.start_run("first")
    data = sdk.Artifact.create(schema_title="system.Dataset", display_name="trips", uri="gs://bucket/trips.csv")
    with sdk.start_execution(schema_title="system.ContainerExecution", display_name="train") as execution:
        execution.assign_input_artifacts([data])
        model = sdk.Artifact.create(schema_title="system.Model", uri="gs://bucket/model", metadata={"rows": 7})
        execution.assign_output_artifacts([model])
    with pytest.raises(ZeroDivisionError), sdk.start_execution(schema_title="system.Run", display_name="bad"):
        raise ZeroDivisionError
    run = sdk.ExperimentRun("first", experiment="taxi")
    sdk.end_run()
    states = {one.display_name: one.state.name for one in run.get_executions()}
    assert states == {"train": "COMPLETE", "bad": "FAILED"}
    assert {one.schema_title for one in run.get_artifacts()} == {"system.Dataset", "system.Model"}
    execution = sdk.Execution(execution.resource_name)
    assert [one.uri for one in execution.get_input_artifacts()] == ["gs://bucket/trips.csv"]
    assert [one.uri for one in execution.get_output_artifacts()] == ["gs://bucket/model"]
    lineage = model.lineage_console_uri
    assert "/metadata-stores/default/artifacts/" in lineage


def test_artifacts_contexts_and_executions_are_listed_changed_and_deleted(init: Any) -> None:
    sdk = init(experiment="taxi", experiment_tensorboard=False)
    made = sdk.Artifact.create(
        schema_title="system.Dataset", resource_id="trips", uri="gs://bucket/a", metadata={"rows": 1}
    )
    made.update(metadata={"columns": 2}, description="trips of a year")
    assert sdk.Artifact("trips").metadata == {"rows": 1, "columns": 2}
    assert [one.name for one in sdk.Artifact.list(filter="metadata.rows.number_value = 1")] == ["trips"]
    assert sdk.Artifact.get_with_uri("gs://bucket/a").name == "trips"
    contexts = sdk.Context.list(filter='schema_title="system.Experiment"')
    assert [one.name for one in contexts] == ["taxi"]
    typed = execution_schema.ContainerExecution(display_name="typed").create()
    assert [one.display_name for one in sdk.Execution.list()] == ["typed"]
    for one in (made, typed):
        one.delete()
    assert sdk.Artifact.list() == []
    assert sdk.Execution.list() == []
    with pytest.raises(NotFound):
        sdk.Artifact("trips")
    with pytest.raises(NotFound, match="taxi-missing"):
        sdk.ExperimentRun("missing", experiment="taxi")


def test_experiment_is_deleted_with_its_runs(init: Any) -> None:
    sdk = init(experiment="taxi")
    with sdk.start_run("first"):
        sdk.log_time_series_metrics({"loss": 1.0}, step=1)
    assert [run.name for run in sdk.ExperimentRun.list(experiment="taxi")] == ["first"]
    sdk.Experiment("taxi").delete(delete_backing_tensorboard_runs=True)
    assert sdk.Context.list() == []
    assert sdk.Artifact.list() == []
    assert sdk.Experiment.get("taxi") is None


def test_metrics_artifacts_of_google_are_created_by_class(init: Any) -> None:
    sdk = init(experiment="taxi", experiment_tensorboard=False)
    metrics = artifact_schema.ClassificationMetrics(au_roc=0.8, log_loss=0.3).create()
    assert metrics.schema_title == "google.ClassificationMetrics"
    assert sdk.Artifact(metrics.resource_name).metadata["auRoc"] == 0.8


def test_model_is_logged_and_loaded_again(init: Any, project: str) -> None:
    from google.cloud.storage import Client
    from sklearn.tree import DecisionTreeRegressor

    Client(project=project).create_bucket(f"{project}-models")
    sdk = init(experiment="taxi", experiment_tensorboard=False, staging_bucket=f"gs://{project}-models")
    with sdk.start_run("first") as run:
        sdk.log_model(DecisionTreeRegressor().fit([[0.0], [1.0]], [2.0, 3.0]), artifact_id="a-model")
        (logged,) = run.get_experiment_models()
    assert logged.get_model_info()["model_class"] == "sklearn.tree._classes.DecisionTreeRegressor"
    assert sdk.get_experiment_model("a-model").load_model().predict([[1.0]]) == [3.0]


def test_registered_model_and_dataset_are_artifacts_that_executions_take(init: Any, project: str) -> None:
    sdk = init(experiment="taxi", experiment_tensorboard=False)
    model = sdk.Model.upload(display_name="taxi-tips", serving_container_image_uri="python:3.11")
    dataset = sdk.TabularDataset.create(display_name="trips", gcs_source="gs://bucket/trips.csv")
    artifact = sdk.Artifact(model.gca_resource.metadata_artifact)
    assert (artifact.schema_title, artifact.display_name) == ("google.VertexModel", "taxi-tips")
    assert artifact.uri == f"https://{LOCATION}-aiplatform.googleapis.com/v1/{model.versioned_resource_name}"
    assert artifact.metadata["resourceName"] == model.versioned_resource_name
    tracked = sdk.Artifact(dataset.gca_resource.metadata_artifact)
    assert tracked.metadata["resourceName"] == dataset.resource_name
    with sdk.start_run("first"), sdk.start_execution(schema_title="system.ContainerExecution", display_name="t") as one:
        one.assign_input_artifacts([tracked])
        one.assign_output_artifacts([model])
    # The SDK finds the artifact that the registration made, and makes no other.
    assert [found.name for found in sdk.Artifact.list(filter='schema_title="google.VertexModel"')] == [artifact.name]
    assert [found.name for found in one.get_output_artifacts()] == [artifact.name]


def test_custom_job_of_a_run_is_named_in_it_and_logs_to_it(init: Any, project: str) -> None:
    sdk = init(experiment="taxi", experiment_tensorboard=False, staging_bucket=f"gs://{project}-staging")
    run = sdk.start_run("first")
    environment = "import os; print(os.environ['AIP_EXPERIMENT_NAME'], os.environ['AIP_EXPERIMENT_RUN_NAME'])"
    container = {"image_uri": "python:3.11", "command": ["python3", "-c", environment]}
    pool = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1, "container_spec": container}
    job = sdk.CustomJob(display_name="a job", worker_pool_specs=[pool])
    job.submit(experiment="taxi", experiment_run="first", service_account="trainer@example.iam.gserviceaccount.com")
    sdk.end_run()
    (named,) = sdk.ExperimentRun("first", experiment="taxi").get_logged_custom_jobs()
    assert named.resource_name == job.resource_name
    assert named.job_spec.experiment_run == run.resource_name
    job.wait_for_resource_creation()
    job.wait()


def test_what_two_writers_log_at_a_time_is_all_kept(init: Any) -> None:
    sdk = init(experiment="taxi", experiment_tensorboard=False)
    with sdk.start_run("first"):
        pass
    writers = [sdk.ExperimentRun("first", experiment="taxi") for _ in range(4)]
    # Each of them read the run before any wrote to it; the etag tells them, and the SDK reads again.
    for number, writer in enumerate(writers):
        writer.log_metrics({f"metric-{number}": number})
    assert len(sdk.ExperimentRun("first", experiment="taxi").get_metrics()) == 4
