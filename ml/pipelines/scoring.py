"""The batch scoring pipeline of ml/taxi_tips: from trips in a bucket to predictions beside them."""

# No `from __future__ import annotations`: kfp reads the annotations themselves.

from collections.abc import Sequence

from kfp import dsl

from ml.pipelines import compiling, components

NAME = "taxi-tips-scoring"


def scoring(code: str) -> dsl.graph_component.GraphComponent:
    """The pipeline. code: the zipped `ml` package below /gcs, which every step finds its code in."""

    @dsl.pipeline(name=NAME, description="Extract, make instances, score in batch, summarise.")
    def taxi_tips_scoring(
        project: str,
        location: str,
        data_uri: str,
        model_id: str,
        version: str = "default",
        machine_type: str = "n1-standard-4",
    ) -> None:
        extracted = components.extract(uri=data_uri).set_env_variable("PYTHONPATH", code)
        made = components.make_instances(trips=extracted.outputs["trips"]).set_env_variable("PYTHONPATH", code)
        scored = components.score(
            project=project,
            location=location,
            model_id=model_id,
            version=version,
            machine_type=machine_type,
            instances=made.outputs["instances"],
        )
        # The model behind an alias changes without any input of this step.
        scored.set_caching_options(enable_caching=False)
        components.summarise(predictions=scored.outputs["predictions"]).set_env_variable("PYTHONPATH", code)

    return taxi_tips_scoring


def main(argv: Sequence[str] | None = None) -> int:
    return compiling.main("ml.pipelines.scoring", scoring, argv)


if __name__ == "__main__":
    raise SystemExit(main())
