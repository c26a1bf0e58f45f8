"""Every combination of two lists, the best of them, and a nested pipeline: loops inside loops, and what they gather."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output


@dsl.component(base_image="python:3.11")
def widths(most: int) -> list:
    return [{"width": width, "label": f"w{width}"} for width in range(1, most + 1)]


@dsl.component(base_image="python:3.11")
def score(width: int, depth: int, name: str, result: Output[Dataset]) -> int:
    with open(result.path, "w") as file:
        file.write(f"{name}:{width}x{depth}")
    result.metadata["area"] = width * depth
    return width * depth


@dsl.component(base_image="python:3.11")
def best(scores: list[int], results: Input[list[Dataset]]) -> str:
    found = max(zip(scores, [open(result.path).read() for result in results]))
    assert [result.metadata["area"] for result in results] == scores
    return f"{found[1]} of {len(scores)}"


@dsl.component(base_image="python:3.11")
def total(scores: list[int]) -> int:
    return sum(scores)


@dsl.component(base_image="python:3.11")
def text(result: Input[Dataset]) -> str:
    return open(result.path).read()


@dsl.component(base_image="python:3.11")
def joined(texts: list[str], origin: Input[Artifact]) -> str:
    return "|".join(texts) + f" from {origin.uri} by {origin.metadata['by']}"


@dsl.pipeline(name="row")
def row(width: int, name: str) -> dsl.Dataset:
    return score(width=width, depth=10, name=name).outputs["result"]


@dsl.pipeline(name="sweep")
def sweep(most: int = 2, origin: str = "gs://somewhere/else"):
    made = widths(most=most)
    with dsl.ParallelFor(made.output, name="widths", parallelism=2) as item:
        nested = row(width=item.width, name=item.label)
        text(result=nested.output)
        with dsl.ParallelFor([1, 2, 3], name="depths") as depth:
            scored = score(width=item.width, depth=depth, name=item.label)
        total(scores=dsl.Collected(scored.outputs["Output"]))
    with dsl.ParallelFor([4, 5], name="flat") as depth:
        one = score(width=2, depth=depth, name="flat")
        read = text(result=one.outputs["result"])
    best(scores=dsl.Collected(one.outputs["Output"]), results=dsl.Collected(one.outputs["result"]))
    imported = dsl.importer(
        artifact_uri=origin, artifact_class=Artifact, reimport=False, metadata={"by": "hand", "n": 3}
    )
    joined(texts=dsl.Collected(read.output), origin=imported.output)
