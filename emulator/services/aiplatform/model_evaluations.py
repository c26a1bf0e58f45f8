"""Evaluations of model versions, their slices, and the annotations that were evaluated in a slice.

Source: https://cloud.google.com/vertex-ai/docs/evaluation/using-model-evaluation
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from google.api_core.exceptions import FailedPrecondition, InvalidArgument, NotFound
from selfloop_apis import aiplatform_v1

from emulator.core.clock import Clock
from emulator.core.ids import new_id
from emulator.core.messages import stamp
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.aiplatform import model_resources as resources
from emulator.services.aiplatform.model_versions import ModelVersions
from emulator.services.aiplatform.state import AiplatformState

ModelEvaluation = aiplatform_v1.ModelEvaluation
ModelEvaluationSlice = aiplatform_v1.ModelEvaluationSlice
EvaluatedAnnotation = aiplatform_v1.EvaluatedAnnotation

_NAME = re.compile(r"(?P<model>.+/models/[^/]+)(?P<rest>/evaluations/[^/]+(?P<slice>/slices/[^/]+)?)")
#: The dimension whose slices hold annotations: one slice for each label.
_ANNOTATION_DIMENSION = "annotationSpec"


class ModelEvaluations:
    """What is stored below `models/M@V`. A name without a version finds what any version of the model has."""

    def __init__(self, *, state: AiplatformState, clock: Clock, projects: Projects, versions: ModelVersions) -> None:
        self._database: Database = state.database
        self._evaluations = state.model_evaluations
        self._slices = state.model_evaluation_slices
        self._clock = clock
        self._projects = projects
        self._versions = versions
        state.database.create(
            "CREATE TABLE IF NOT EXISTS evaluated_annotations (slice TEXT NOT NULL, message BLOB NOT NULL)",
            "CREATE INDEX IF NOT EXISTS evaluated_annotations_by_slice ON evaluated_annotations (slice)",
        )

    def add(self, parent: str, given: ModelEvaluation) -> ModelEvaluation:
        """Store an evaluation of the version that the parent names, the default one for a bare model."""
        evaluation = ModelEvaluation()
        evaluation.CopyFrom(given)
        stamp(evaluation.create_time, self._clock.now())
        with self._database.transaction():
            evaluation.name = f"{self._versions.resolve(parent)}/evaluations/{new_id()}"
            return self._evaluations.insert(evaluation)

    def get(self, name: str) -> ModelEvaluation:
        """Raises InvalidArgument for another form of name, NotFound."""
        for candidate in self._candidates(name, is_slice=False):
            evaluation = self._evaluations.find(candidate)
            if evaluation is not None:
                return evaluation
        raise NotFound(f"The ModelEvaluation `{self._projects.canonical(name)}` does not exist.")

    def of_version(self, parent: str) -> list[ModelEvaluation]:
        """Those of the version that a model's name means, newest first. Raises NotFound."""
        return self._evaluations.list(self._versions.resolve(parent))

    def add_slices(self, parent: str, given: Sequence[ModelEvaluationSlice]) -> list[str]:
        """Store all slices, or none, and give back their names. The evaluation tells their dimensions from now on."""
        for index, one in enumerate(given):
            if not one.slice_.dimension:
                raise InvalidArgument(
                    f"List of found errors:\t1.Field: model_evaluation_slices[{index}].slice.dimension; "
                    "Message: Required field is not set.\t"
                )
        imported = []
        with self._database.transaction():
            evaluation = self.get(parent)
            for one in given:
                stored = ModelEvaluationSlice()
                stored.CopyFrom(one)
                stored.name = f"{evaluation.name}/slices/{new_id()}"
                stamp(stored.create_time, self._clock.now())
                imported.append(self._slices.insert(stored).name)
            dimensions = dict.fromkeys([*evaluation.slice_dimensions, *(one.slice_.dimension for one in given)])
            self._evaluations.update(evaluation.name, lambda stored: _set_dimensions(stored, dimensions))
        return imported

    def get_slice(self, name: str) -> ModelEvaluationSlice:
        """Raises InvalidArgument for another form of name, NotFound."""
        for candidate in self._candidates(name, is_slice=True):
            found = self._slices.find(candidate)
            if found is not None:
                return found
        raise NotFound(f"The ModelEvaluationSlice `{self._projects.canonical(name)}` does not exist.")

    def slices(self, parent: str) -> list[ModelEvaluationSlice]:
        """Those of an evaluation, newest first. Raises NotFound."""
        return self._slices.list(self.get(parent).name)

    def add_annotations(self, parent: str, given: Sequence[EvaluatedAnnotation]) -> int:
        """Store what was predicted for the items of a slice and give back how many those are.

        No call of the API reads them. Raises NotFound, FailedPrecondition for a slice of another dimension.
        """
        with self._database.transaction() as connection:
            found = self.get_slice(parent)
            if found.slice_.dimension != _ANNOTATION_DIMENSION:
                raise FailedPrecondition(
                    f"The ModelEvaluationSlice `{found.name}` is of the dimension {found.slice_.dimension!r}; "
                    f"only those of {_ANNOTATION_DIMENSION!r} have annotations."
                )
            connection.executemany(
                "INSERT INTO evaluated_annotations VALUES (?, ?)",
                [(found.name, annotation.SerializeToString()) for annotation in given],
            )
        return len(given)

    def forget(self, version: str) -> None:
        """Remove everything below `models/M@V`."""
        with self._database.transaction() as connection:
            for evaluation in self._evaluations.list(version):
                for one in self._slices.list(evaluation.name):
                    connection.execute("DELETE FROM evaluated_annotations WHERE slice = ?", (one.name,))
                    self._slices.delete(one.name)
                self._evaluations.delete(evaluation.name)

    def _candidates(self, name: str, *, is_slice: bool) -> list[str]:
        """The full names that a name may mean: one, or one for each version of its model."""
        found = _NAME.fullmatch(name)
        if not found or bool(found["slice"]) != is_slice:
            kind = "ModelEvaluationSlice" if is_slice else "ModelEvaluation"
            raise InvalidArgument(f"Invalid {kind} resource name: {name[:300]!r}.")
        model = resources.parse_model_name(found["model"], self._projects)
        if model.version:
            versions = [self._versions.resolve(found["model"])]
        else:
            versions = [version.name for version in self._versions.versions(model.model)]
        return [f"{version}{found['rest']}" for version in versions]


def _set_dimensions(evaluation: ModelEvaluation, dimensions: Iterable[str]) -> None:
    evaluation.ClearField("slice_dimensions")
    evaluation.slice_dimensions.extend(dimensions)
