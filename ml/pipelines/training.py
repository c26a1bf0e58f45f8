"""The training pipeline of ml/taxi_tips: from trips in a bucket to a model version that earned its place."""

# No `from __future__ import annotations`: kfp reads the annotations themselves.

from collections.abc import Sequence

from kfp import dsl

from ml.pipelines import compiling, components
from ml.taxi_tips.model import Parameters

NAME = "taxi-tips-training"
_DEFAULTS = Parameters()


def training(code: str) -> dsl.graph_component.GraphComponent:
    """The pipeline. code: the zipped `ml` package below /gcs, which every step finds its code in."""

    def with_code(task: dsl.PipelineTask) -> dsl.PipelineTask:
        return task.set_env_variable("PYTHONPATH", code)

    @dsl.pipeline(name=NAME, description="Extract, validate, prepare, train, evaluate, compare, register, deploy.")
    def taxi_tips_training(
        project: str,
        location: str,
        data_uri: str,
        model_id: str,
        serving_image_uri: str,
        display_name: str = "taxi-tips",
        description: str = "",
        labels: dict = {},  # noqa: B006  # a pipeline's default is a constant
        learning_rate: float = _DEFAULTS.learning_rate,
        max_leaf_nodes: int = _DEFAULTS.max_leaf_nodes,
        max_iter: int = _DEFAULTS.max_iter,
        metric: str = "auc_roc",
        margin: float = 0.0,
        endpoint_id: str = "",
        endpoint_labels: dict = {},  # noqa: B006
        machine_type: str = "n1-standard-2",
        min_replica_count: int = 1,
        max_replica_count: int = 1,
    ) -> None:
        """endpoint_id: where to deploy a version that is accepted; empty for nowhere."""
        extracted = with_code(components.extract(uri=data_uri))
        trips = extracted.outputs["trips"]
        validated = with_code(components.validate(trips=trips))
        prepared = with_code(components.prepare(trips=trips)).after(validated)
        test_rows = prepared.outputs["test_rows"]
        trained = with_code(
            components.train(
                train_rows=prepared.outputs["train_rows"],
                validation_rows=prepared.outputs["validation_rows"],
                test_rows=test_rows,
                learning_rate=learning_rate,
                max_leaf_nodes=max_leaf_nodes,
                max_iter=max_iter,
            )
        )
        model = trained.outputs["model"]
        with_code(components.evaluate(model=model, test_rows=test_rows))
        # Who the champion is changes without any input of this step.
        champion = components.find_champion(project=project, location=location, model_id=model_id)
        champion.set_caching_options(enable_caching=False)
        decision = with_code(
            components.compare(
                challenger=model,
                test_rows=test_rows,
                champion_name=champion.outputs["name"],
                champion_uri=champion.outputs["artifact_uri"],
                metric=metric,
                margin=margin,
            )
        )
        with dsl.If(decision.outputs["accepted"] == True, name="accepted"):  # noqa: E712  # kfp's own operator
            registered = components.register(
                project=project,
                location=location,
                model_id=model_id,
                display_name=display_name,
                description=description,
                serving_image_uri=serving_image_uri,
                labels=labels,
                pipeline_job=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
                model=model,
            )
            registered.set_caching_options(enable_caching=False)
            with dsl.If(endpoint_id != "", name="deployment asked for"):
                deployed = components.deploy(
                    project=project,
                    location=location,
                    endpoint_id=endpoint_id,
                    version=registered.output,
                    machine_type=machine_type,
                    min_replica_count=min_replica_count,
                    max_replica_count=max_replica_count,
                    labels=endpoint_labels,
                )
                deployed.set_caching_options(enable_caching=False)

    return taxi_tips_training


def main(argv: Sequence[str] | None = None) -> int:
    return compiling.main("ml.pipelines.training", training, argv)


if __name__ == "__main__":
    raise SystemExit(main())
