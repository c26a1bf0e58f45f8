"""The batch scoring pipeline of ml/taxi_tips: from trips in a bucket to predictions beside them."""

# No `from __future__ import annotations`: kfp reads the annotations themselves.

import argparse
from collections.abc import Sequence
from pathlib import Path

from kfp import compiler, dsl

from ml.pipelines import components

NAME = "taxi-tips-scoring"


def compile_to(target: Path, code: str) -> None:
    """Write the pipeline as YAML. code: the zipped `ml` package below /gcs, which steps find their code in."""
    compiler.Compiler().compile(scoring(code), str(target))


def scoring(code: str) -> dsl.graph_component.GraphComponent:
    """The pipeline whose steps take their code from there."""

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
    """Compile the batch scoring pipeline; its steps take their code from a zip below /gcs."""
    parser = argparse.ArgumentParser(prog="python -m ml.pipelines.scoring", description=main.__doc__)
    parser.add_argument("--code", required=True, help="path of the zipped ml package in the steps' containers")
    parser.add_argument("--out", required=True, type=Path, help="the YAML file to write")
    arguments = parser.parse_args(argv)
    compile_to(arguments.out, arguments.code)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
