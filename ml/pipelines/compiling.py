"""What each pipeline's module does when it is run: compile itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from kfp import compiler
from kfp.dsl.graph_component import GraphComponent


def compile_to(pipeline: GraphComponent, target: Path) -> None:
    """Write a pipeline as YAML that Vertex AI takes."""
    compiler.Compiler().compile(pipeline, str(target))


def main(module: str, pipeline: Callable[[str], GraphComponent], argv: Sequence[str] | None) -> int:
    """`python -m MODULE --code PATH --out FILE`. pipeline: makes it of the path that its steps find their code at."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description="Compile the pipeline of this module.")
    parser.add_argument("--code", required=True, help="path of the zipped ml package in the steps' containers")
    parser.add_argument("--out", required=True, type=Path, help="the YAML file to write")
    arguments = parser.parse_args(argv)
    compile_to(pipeline(arguments.code), arguments.out)
    return 0
