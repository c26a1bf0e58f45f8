"""Vertex AI ModelService: the Model Registry's calls, and evaluations of model versions.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1
"""

from __future__ import annotations

import re

from google.api_core.exceptions import FailedPrecondition, InvalidArgument, NotFound
from google.protobuf.message import Message
from selfloop_apis import aiplatform_v1, protobuf

from emulator.core import field_masks, pagination
from emulator.core.clock import Clock
from emulator.core.ids import new_id
from emulator.core.messages import stamp
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform import model_resources as resources
from emulator.services.aiplatform.model_versions import ModelVersions
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.validation import FoundErrors

Model = aiplatform_v1.Model
ModelEvaluation = aiplatform_v1.ModelEvaluation

#: What an update of the model as a whole may name, and one of a version; labels belong to both.
_MODEL_FIELDS = frozenset({"display_name", "description"})
_VERSION_FIELDS = frozenset({"version_description"})
_EVALUATION = re.compile(r"(.+/models/[^/]+)/evaluations/([^/]+)")


class ModelService(GapicService):
    api = "google.cloud.aiplatform.v1.ModelService"

    def __init__(
        self,
        *,
        state: AiplatformState,
        clock: Clock,
        projects: Projects,
        operations: Operations,
        versions: ModelVersions,
    ) -> None:
        self._clock = clock
        self._projects = projects
        self._operations = operations
        self._versions = versions
        self._evaluations = state.model_evaluations

    def upload_model(self, request: aiplatform_v1.UploadModelRequest, context: Context) -> Message:
        """Register a model version; its files are checked and copied inside the operation."""
        upload = self._versions.prepare(request.parent, request.model, request.model_id, request.parent_model)

        def work(_: object) -> aiplatform_v1.UploadModelResponse:
            model = self._versions.add(upload)
            return aiplatform_v1.UploadModelResponse(model=model.name, model_version_id=model.version_id)

        metadata = aiplatform_v1.UploadModelOperationMetadata()
        operation: Message = self._operations.start(upload.name, metadata, work, context)
        return operation

    def get_model(self, request: aiplatform_v1.GetModelRequest, context: Context) -> Model:
        return self._versions.get(request.name)

    def list_models(
        self, request: aiplatform_v1.ListModelsRequest, context: Context
    ) -> aiplatform_v1.ListModelsResponse:
        """One entry for each model: its default version."""
        page = pagination.page(
            self._versions.models(request.parent),
            request,
            Model,
            filterable=("display_name", "labels"),
            computed={
                "model": lambda model: model.name.rpartition("/")[2],
                "base_model_name": _base_model_name,
                "baseModelName": _base_model_name,
            },
            canonical=self._projects.canonical,
            sortable=("display_name", "create_time", "update_time"),
        )
        return aiplatform_v1.ListModelsResponse(models=page.items, next_page_token=page.next_page_token)

    def list_model_versions(
        self, request: aiplatform_v1.ListModelVersionsRequest, context: Context
    ) -> aiplatform_v1.ListModelVersionsResponse:
        page = pagination.page(
            self._versions.versions(request.name),
            request,
            Model,
            filterable=("labels",),
            sortable=("create_time", "update_time"),
        )
        return aiplatform_v1.ListModelVersionsResponse(models=page.items, next_page_token=page.next_page_token)

    def update_model(self, request: aiplatform_v1.UpdateModelRequest, context: Context) -> Model:
        """Change what the versions share, or one version: the name in the request decides.

        Raises FailedPrecondition for fields of both kinds, or of the kind that the name does not mean.
        """
        given = request.model
        name = resources.parse_model_name(given.name, self._projects)
        paths = list(request.update_mask.paths)
        named = {path.partition(".")[0] for path in paths}
        of_model, of_version = named & _MODEL_FIELDS, named & _VERSION_FIELDS
        if of_model and of_version:
            raise FailedPrecondition(
                "One request cannot update both Model and Model version fields; update them separately."
            )
        version = name.version
        if of_version and not version:
            # A client that read `models/M@2` sends it back under its bare name, and the id beside it.
            version = given.version_id
            if not version:
                raise FailedPrecondition(
                    f"The fields {', '.join(sorted(of_version))} belong to a version; "
                    f"use a name such as {name.model}@1."
                )
        if of_model and version:
            raise FailedPrecondition(
                f"The fields {', '.join(sorted(of_model))} belong to the Model, not to a version; "
                f"use the name {name.model}."
            )
        updatable = (_VERSION_FIELDS if version else _MODEL_FIELDS) | {"labels"}

        def change(stored: Model) -> None:
            field_masks.update(stored, given, paths, updatable)
            found = FoundErrors()
            found.check_display_name(stored.display_name)
            found.check_labels(stored.labels)
            found.raise_any()

        if version:
            self._versions.change_version(name.model, version, given.etag, change)
        else:
            self._versions.change_model(name.model, given.etag, change)
        return self._versions.get(f"{name.model}@{version}" if version else name.model)

    def merge_version_aliases(self, request: aiplatform_v1.MergeVersionAliasesRequest, context: Context) -> Model:
        return self._versions.merge_aliases(request.name, request.version_aliases)

    def delete_model(self, request: aiplatform_v1.DeleteModelRequest, context: Context) -> Message:
        """Remove a model with all of its versions, their files and evaluations."""
        return self._deleted(request.name, self._versions.delete(request.name), context)

    def delete_model_version(self, request: aiplatform_v1.DeleteModelVersionRequest, context: Context) -> Message:
        return self._deleted(request.name, [self._versions.delete_version(request.name)], context)

    def _deleted(self, name: str, versions: list[str], context: Context) -> Message:
        for version in versions:
            for evaluation in self._evaluations.list(version):
                self._evaluations.delete(evaluation.name)
        location = resources.parse_model_name(name, self._projects).location
        operation: Message = self._operations.finished(
            location, aiplatform_v1.DeleteOperationMetadata(), protobuf.Empty(), context
        )
        return operation

    # Evaluations

    def import_model_evaluation(
        self, request: aiplatform_v1.ImportModelEvaluationRequest, context: Context
    ) -> ModelEvaluation:
        """Store an evaluation of the version that the parent names, the default one for a bare model."""
        evaluation = ModelEvaluation()
        evaluation.CopyFrom(request.model_evaluation)
        evaluation.name = f"{self._versions.resolve(request.parent)}/evaluations/{new_id()}"
        stamp(evaluation.create_time, self._clock.now())
        return self._evaluations.insert(evaluation)

    def get_model_evaluation(
        self, request: aiplatform_v1.GetModelEvaluationRequest, context: Context
    ) -> ModelEvaluation:
        """By `models/M/evaluations/E`, which finds that of any version, or with the version named."""
        found = _EVALUATION.fullmatch(request.name)
        if not found:
            raise InvalidArgument(f"Invalid ModelEvaluation resource name: {request.name[:300]!r}.")
        name = resources.parse_model_name(found[1], self._projects)
        if name.version:
            versions = [self._versions.resolve(found[1])]
        else:
            versions = [version.name for version in self._versions.versions(name.model)]
        for version in versions:
            evaluation = self._evaluations.find(f"{version}/evaluations/{found[2]}")
            if evaluation is not None:
                return evaluation
        raise NotFound(f"The ModelEvaluation `{self._projects.canonical(request.name)}` does not exist.")

    def list_model_evaluations(
        self, request: aiplatform_v1.ListModelEvaluationsRequest, context: Context
    ) -> aiplatform_v1.ListModelEvaluationsResponse:
        """Those of the version that the parent names, newest first."""
        page = pagination.page(
            self._evaluations.list(self._versions.resolve(request.parent)),
            request,
            ModelEvaluation,
            filterable=("display_name", "metrics_schema_uri", "create_time", "name"),
            canonical=self._projects.canonical,
        )
        return aiplatform_v1.ListModelEvaluationsResponse(
            model_evaluations=page.items, next_page_token=page.next_page_token
        )


def _base_model_name(model: Model) -> str:
    return str(model.base_model_source.model_garden_source.public_model_name)
