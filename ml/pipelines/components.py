"""The steps of the pipelines: KFP components whose bodies call the models' packages.

A body is taken out of this module and run by itself, in a container that finds `ml` on its PYTHONPATH: it imports
what it needs, and nothing of this module's is there but its arguments.
"""

# No `from __future__ import annotations`: kfp reads the annotations themselves.

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

#: Trains and measures: the image that also trains by itself.
TRAINING_IMAGE = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
#: Speaks to Vertex AI.
CLIENT_IMAGE = "python:3.11"
CLIENT_PACKAGES = ["google-cloud-aiplatform==2.7.0"]


@dsl.component(base_image=TRAINING_IMAGE)
def extract(uri: str, trips: Output[Dataset]) -> None:
    """Freeze the trips of CSV files in a bucket, so that every later step sees the same."""
    import shutil
    from pathlib import Path

    from ml.paths import input_files

    files = input_files(uri)
    folder = Path(trips.path)
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        shutil.copyfile(file, folder / f"trips-{number:05}.csv")
    trips.metadata["source"] = uri
    trips.metadata["files"] = len(files)
    trips.metadata["bytes"] = sum(file.stat().st_size for file in files)


@dsl.component(base_image=TRAINING_IMAGE)
def validate(trips: Input[Dataset], report: Output[HTML]) -> None:
    """Hold the trips to what is expected of them; a step that fails names what is not as it should be."""
    import html
    from pathlib import Path

    from ml.errors import InputError
    from ml.taxi_tips import data, expectations

    findings = expectations.check(data.read(sorted(Path(trips.path).glob("*.csv"))).examples)
    rows = "".join(
        f"<tr><td>{'met' if finding.is_met else 'NOT MET'}</td>"
        + "".join(f"<td>{html.escape(text)}</td>" for text in (finding.subject, finding.expected, finding.found))
        for finding in findings
    )
    Path(report.path).write_text(
        "<!doctype html><meta charset=utf-8><title>Trips</title>"
        f"<table><tr><th><th>what<th>expected<th>found</tr>{rows}</table>\n"
    )
    report.metadata["expectations"] = len(findings)
    missed = [
        f"{finding.subject} is {finding.found}, not {finding.expected}" for finding in findings if not finding.is_met
    ]
    report.metadata["missed"] = len(missed)
    if missed:
        raise InputError(f"the trips are not as expected: {'; '.join(missed)}")


@dsl.component(base_image=TRAINING_IMAGE)
def prepare(
    trips: Input[Dataset],
    train_rows: Output[Dataset],
    validation_rows: Output[Dataset],
    test_rows: Output[Dataset],
) -> None:
    """Make labelled examples of the trips and split them by the trip's own key."""
    from pathlib import Path

    from ml.taxi_tips import data

    parts = data.split(data.read(sorted(Path(trips.path).glob("*.csv"))).examples)
    for name, output in (("train", train_rows), ("validation", validation_rows), ("test", test_rows)):
        data.write_examples(parts[name], Path(output.path))
        output.metadata["rows"] = len(parts[name])
        output.metadata["fingerprint"] = data.fingerprint(parts[name])


@dsl.component(base_image=TRAINING_IMAGE)
def train(
    train_rows: Input[Dataset],
    validation_rows: Input[Dataset],
    test_rows: Input[Dataset],
    learning_rate: float,
    max_leaf_nodes: int,
    max_iter: int,
    model: Output[Model],
) -> None:
    """Fit the model; its folder is laid out as a training job's."""
    from pathlib import Path

    from ml.taxi_tips import data
    from ml.taxi_tips import train as training
    from ml.taxi_tips.model import Parameters

    rows = {"train": train_rows, "validation": validation_rows, "test": test_rows}
    splits = {name: data.read_examples(Path(part.path)) for name, part in rows.items()}
    parameters = Parameters(learning_rate=learning_rate, max_leaf_nodes=max_leaf_nodes, max_iter=max_iter)
    metrics = training.write(Path(model.path), *training.train(splits, parameters))
    model.metadata["framework"] = "scikit-learn"
    model.metadata["trees"] = metrics["model"]["trees"]


@dsl.component(base_image=TRAINING_IMAGE)
def evaluate(
    model: Input[Model],
    test_rows: Input[Dataset],
    metrics: Output[Metrics],
    classification: Output[ClassificationMetrics],
) -> None:
    """Measure the model on the test rows."""
    from pathlib import Path

    from ml.taxi_tips import data, evaluate, features
    from ml.taxi_tips.model import scores

    rows = data.read_examples(Path(test_rows.path))
    truth = rows[data.LABEL].to_numpy(dtype="int64")
    predicted = scores(str(Path(model.path) / "model.joblib"), features.matrix(rows))
    measured = evaluate.evaluate(truth, predicted)
    schema = evaluate.classification_metrics(truth, predicted)
    # Named as in a model's evaluation, so that runs of jobs and of pipelines compare.
    for name in ("auRoc", "auPrc", "logLoss"):
        if name in schema:
            metrics.log_metric(name, schema[name])
    for name in ("accuracy", "base_rate", "rows"):
        metrics.log_metric(name, measured[name])
    points = schema["confidenceMetrics"]
    classification.log_roc_curve(
        [point["falsePositiveRate"] for point in points],
        [point["recall"] for point in points],
        [point["confidenceThreshold"] for point in points],
    )
    classification.log_confusion_matrix(list(evaluate.LABELS), measured["confusion_matrix"])


@dsl.component(base_image=CLIENT_IMAGE, packages_to_install=CLIENT_PACKAGES)
def find_champion(project: str, location: str, model_id: str) -> NamedTuple(  # type: ignore[valid-type]
    "Champion", [("name", str), ("artifact_uri", str)]
):
    """The default version of a model and where its files are; both empty where there is no such model."""
    from typing import NamedTuple

    from google.api_core.client_options import ClientOptions
    from google.api_core.exceptions import NotFound
    from google.cloud.aiplatform_v1 import ModelServiceClient

    Champion = NamedTuple("Champion", [("name", str), ("artifact_uri", str)])
    client = ModelServiceClient(client_options=ClientOptions(api_endpoint=f"{location}-aiplatform.googleapis.com"))
    try:
        found = client.get_model(name=client.model_path(project, location, model_id), timeout=60)
    except NotFound:
        return Champion("", "")
    return Champion(f"{found.name}@{found.version_id}", found.artifact_uri)


@dsl.component(base_image=TRAINING_IMAGE)
def compare(
    challenger: Input[Model],
    test_rows: Input[Dataset],
    champion_name: str,
    champion_uri: str,
    metric: str,
    margin: float,
    comparison: Output[Metrics],
) -> NamedTuple("Decision", [("accepted", bool), ("reason", str)]):  # type: ignore[valid-type]
    """Whether the challenger takes the champion's place, by one measure of both on the same test rows.

    See `ml.comparison.compare` for direction, margin, a missing champion, ties and NaN.
    """
    from pathlib import Path
    from typing import NamedTuple

    from ml.comparison import compare as judge
    from ml.taxi_tips import data, evaluate, features
    from ml.taxi_tips.model import scores

    rows = data.read_examples(Path(test_rows.path))
    truth = rows[data.LABEL].to_numpy(dtype="int64")

    def measure(location: str) -> float:
        return evaluate.evaluate(truth, scores(location, features.matrix(rows)))[metric]

    ours = measure(str(Path(challenger.path) / "model.joblib"))
    theirs = measure(f"{champion_uri.rstrip('/')}/model.joblib") if champion_uri else None
    decision = judge(ours, theirs, metric, margin)
    print(decision.reason)
    comparison.metadata.update(
        accepted=decision.accepted,
        reason=decision.reason,
        metric=metric,
        margin=margin,
        champion=champion_name,
        rows=len(rows),
        fingerprint=data.fingerprint(rows),
    )
    measures = {"challenger": decision.challenger, "champion_measure": decision.champion, "gain": decision.gain}
    for name, value in measures.items():
        if value is not None:
            comparison.log_metric(name, value)
    Decision = NamedTuple("Decision", [("accepted", bool), ("reason", str)])
    return Decision(decision.accepted, decision.reason)


@dsl.component(base_image=CLIENT_IMAGE, packages_to_install=CLIENT_PACKAGES)
def register(
    project: str,
    location: str,
    model_id: str,
    display_name: str,
    description: str,
    serving_image_uri: str,
    labels: dict,
    pipeline_job: str,
    model: Input[Model],
) -> str:
    """Register the model as the new default version, with its evaluation; gives back `…/models/M@V`.

    pipeline_job: resource name of the job that this is a step of, to which the version's lineage leads.
    """
    import json
    from pathlib import Path
    from typing import Any

    from google.api_core.client_options import ClientOptions
    from google.api_core.exceptions import NotFound
    from google.cloud.aiplatform_v1 import ModelServiceClient
    from google.protobuf import json_format, struct_pb2

    client = ModelServiceClient(client_options=ClientOptions(api_endpoint=f"{location}-aiplatform.googleapis.com"))
    parent, name = f"projects/{project}/locations/{location}", client.model_path(project, location, model_id)
    request = {
        "parent": parent,
        "model": {
            "display_name": display_name,
            "description": description,
            "artifact_uri": model.uri,
            "container_spec": {"image_uri": serving_image_uri},
            "labels": labels,
            "pipeline_job": pipeline_job,
            "version_aliases": ["default"],
            "version_description": "registered by the training pipeline",
        },
    }
    try:
        client.get_model(name=name, timeout=60)
        request["parent_model"] = name
    except NotFound:
        request["model_id"] = model_id
    made = client.upload_model(request, timeout=60).result(timeout=600)
    version = f"{name}@{made.model_version_id}"
    measured = json.loads((Path(model.path) / "metrics.json").read_text())["classification_metrics"]
    evaluation: Any = {
        "display_name": f"training of version {made.model_version_id}",
        "metrics_schema_uri": "gs://google-cloud-aiplatform/schema/modelevaluation/classification_metrics_1.0.0.yaml",
        "metrics": json_format.ParseDict(measured, struct_pb2.Value()),
    }
    client.import_model_evaluation(parent=version, model_evaluation=evaluation, timeout=60)
    return version


@dsl.component(base_image=CLIENT_IMAGE, packages_to_install=CLIENT_PACKAGES)
def deploy(
    project: str,
    location: str,
    endpoint_id: str,
    version: str,
    machine_type: str,
    min_replica_count: int,
    max_replica_count: int,
    labels: dict,
) -> str:
    """Give a model version all of an endpoint's traffic, and undeploy what served before; gives back its id there."""
    from typing import Any

    from google.api_core.client_options import ClientOptions
    from google.api_core.exceptions import NotFound
    from google.cloud.aiplatform_v1 import EndpointServiceClient

    client = EndpointServiceClient(client_options=ClientOptions(api_endpoint=f"{location}-aiplatform.googleapis.com"))
    name = client.endpoint_path(project, location, endpoint_id)
    try:
        before = [deployed.id for deployed in client.get_endpoint(name=name, timeout=60).deployed_models]
    except NotFound:
        parent, endpoint = f"projects/{project}/locations/{location}", {"display_name": endpoint_id, "labels": labels}
        request = {"parent": parent, "endpoint": endpoint, "endpoint_id": endpoint_id}
        client.create_endpoint(request, timeout=60).result(timeout=600)
        before = []
    resources = {
        "machine_spec": {"machine_type": machine_type},
        "min_replica_count": min_replica_count,
        "max_replica_count": max_replica_count,
    }
    deployed_model: Any = {"model": version, "dedicated_resources": resources}
    operation = client.deploy_model(endpoint=name, deployed_model=deployed_model, traffic_split={"0": 100}, timeout=60)
    deployed_id = operation.result(timeout=1800).deployed_model.id
    # What served goes only when the new version has the traffic.
    for old in before:
        client.undeploy_model(endpoint=name, deployed_model_id=old, timeout=60).result(timeout=600)
    return deployed_id


@dsl.component(base_image=TRAINING_IMAGE)
def make_instances(trips: Input[Dataset], instances: Output[Dataset]) -> None:
    """What the model sees of each trip, one JSON instance a line."""
    import json
    from pathlib import Path

    from ml.taxi_tips import data, features

    rows = data.read_unlabelled(sorted(Path(trips.path).glob("*.csv")))
    file = Path(instances.path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lines:
        for instance in features.instances(rows):
            lines.write(f"{json.dumps(instance)}\n")
    instances.metadata["rows"] = len(rows)


@dsl.component(base_image=CLIENT_IMAGE, packages_to_install=CLIENT_PACKAGES)
def score(
    project: str,
    location: str,
    model_id: str,
    version: str,
    machine_type: str,
    instances: Input[Dataset],
    predictions: Output[Dataset],
) -> None:
    """Score every instance by a batch prediction job; its folder becomes the output."""
    import time
    from typing import Any

    from google.api_core.client_options import ClientOptions
    from google.cloud.aiplatform_v1 import JobServiceClient, JobState

    client = JobServiceClient(client_options=ClientOptions(api_endpoint=f"{location}-aiplatform.googleapis.com"))
    parent = f"projects/{project}/locations/{location}"
    wanted: Any = {
        "display_name": f"score-{model_id}",
        "model": f"{parent}/models/{model_id}@{version}",
        "input_config": {"instances_format": "jsonl", "gcs_source": {"uris": [instances.uri]}},
        "output_config": {
            "predictions_format": "jsonl",
            "gcs_destination": {"output_uri_prefix": predictions.uri},
        },
        "dedicated_resources": {
            "machine_spec": {"machine_type": machine_type},
            "starting_replica_count": 1,
            "max_replica_count": 1,
        },
    }
    job = client.create_batch_prediction_job(parent=parent, batch_prediction_job=wanted, timeout=60)
    ended = (JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED)
    while job.state not in ended:
        time.sleep(5)
        job = client.get_batch_prediction_job(name=job.name, timeout=60)
    if job.state != JobState.JOB_STATE_SUCCEEDED:
        raise RuntimeError(f"{job.name} ended as {job.state.name}: {job.error.message}")
    predictions.uri = job.output_info.gcs_output_directory
    predictions.metadata["job"] = job.name
    predictions.metadata["successful"] = job.completion_stats.successful_count
    predictions.metadata["failed"] = job.completion_stats.failed_count


@dsl.component(base_image=TRAINING_IMAGE)
def summarise(predictions: Input[Dataset], summary: Output[Metrics]) -> None:
    """How many trips were scored, and the share of them that is expected to tip 20 % or more."""
    import json
    from pathlib import Path

    answers = []
    for file in sorted(Path(predictions.path).glob("prediction.results-*")):
        with file.open() as lines:
            answers += [float(json.loads(line)["prediction"]) for line in lines]
    summary.log_metric("rows", len(answers))
    if answers:
        summary.log_metric("positive_share", sum(answers) / len(answers))
