"""Train, look at the metric, promote or not, and tell how it went: conditions, an exit handler, artifacts, metrics."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import (
    HTML,
    ClassificationMetrics,
    Dataset,
    Input,
    Markdown,
    Metrics,
    Model,
    Output,
    PipelineTaskFinalStatus,
    SlicedClassificationMetrics,
)


@dsl.component(base_image="python:3.11", packages_to_install=["pandas>=2,<3"])
def make_data(rows: int, data: Output[Dataset]):
    import pandas

    pandas.DataFrame({"x": range(rows), "y": [2 * x for x in range(rows)]}).to_csv(data.path, index=False)
    data.metadata["rows"] = rows
    data.metadata["columns"] = ["x", "y"]


@dsl.component(base_image="python:3.11")
def train(
    data: Input[Dataset],
    model: Output[Model],
    metrics: Output[Metrics],
    matrix: Output[ClassificationMetrics],
    slices: Output[SlicedClassificationMetrics],
    page: Output[HTML],
    notes: Output[Markdown],
    rate: float = 0.5,
    options: dict = {"depth": 3, "names": ["a"]},
) -> NamedTuple("Trained", [("accuracy", float), ("labels", list)]):
    import json
    import os
    from collections import namedtuple

    lines = open(data.path).read().splitlines()
    os.makedirs(model.path)
    with open(os.path.join(model.path, "model.json"), "w") as file:
        json.dump({"rows": len(lines) - 1, "options": options, "uri": data.uri, "of": data.metadata}, file)
    model.metadata["framework"] = "none"
    accuracy = min(1.0, rate + (len(lines) - 1) / 100)
    metrics.log_metric("accuracy", accuracy)
    matrix.log_confusion_matrix(["no", "yes"], [[3, 1], [2, 4]])
    matrix.log_roc_curve([0.0, 1.0], [0.0, 1.0], [1.0, 0.0])
    # kfp 2.16's own methods of this class fail.
    slices.metadata["evaluationSlices"] = [{"slice": "young", "sliceClassificationMetrics": matrix.metadata}]
    with open(page.path, "w") as file:
        file.write("<h1>report</h1>")
    with open(notes.path, "w") as file:
        file.write("# report")
    return namedtuple("Trained", ["accuracy", "labels"])(accuracy, ["no", "yes"])


@dsl.component(base_image="python:3.11")
def register(model: Input[Model], alias: str) -> str:
    return f"{alias}:{model.uri.rsplit('/', 1)[1]}:{model.metadata['framework']}"


@dsl.component(base_image="python:3.11")
def reject(reason: str) -> str:
    return reason


@dsl.component(base_image="python:3.11")
def announce(text: str) -> str:
    return text.upper()


@dsl.component(base_image="python:3.11")
def tell(status: PipelineTaskFinalStatus, who: str) -> str:
    return f"{who}: {status.state} {status.pipeline_task_name} {status.error_code}"


@dsl.pipeline(name="promotion", description="promotes what is good enough")
def promotion(rows: int, threshold: float = 0.6, who: str = "team"):
    told = tell(who=who)
    with dsl.ExitHandler(told, name="everything"):
        made = make_data(rows=rows).set_display_name("Make the data")
        trained = train(data=made.outputs["data"])
        trained.set_cpu_limit("2").set_memory_limit("4G").set_env_variable("MODE", "test")
        with dsl.If(trained.outputs["accuracy"] >= threshold, name="good enough"):
            promoted = register(model=trained.outputs["model"], alias="champion")
        with dsl.Else():
            refused = reject(reason=f"accuracy {trained.outputs['accuracy']} of {who}")
        announce(text=dsl.OneOf(promoted.output, refused.output))
