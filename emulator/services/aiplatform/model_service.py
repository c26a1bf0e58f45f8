"""Vertex AI ModelService: the Model Registry's calls, and evaluations of model versions.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1
"""

from __future__ import annotations

from google.api_core.exceptions import Cancelled, FailedPrecondition, NotFound
from google.protobuf.message import Message
from selfloop_apis import aiplatform_v1, protobuf

from emulator.core import field_masks, pagination
from emulator.core.clock import Clock
from emulator.core.interfaces import ObjectStore
from emulator.core.operations import Operations, Running
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform import model_resources as resources
from emulator.services.aiplatform.model_evaluations import ModelEvaluations
from emulator.services.aiplatform.model_files import ModelFiles
from emulator.services.aiplatform.model_versions import ModelVersions
from emulator.services.aiplatform.validation import FoundErrors

Model = aiplatform_v1.Model

#: What an update of the model as a whole may name, and one of a version; labels belong to both.
_MODEL_FIELDS = frozenset({"display_name", "description"})
_VERSION_FIELDS = frozenset({"version_description"})


class ModelService(GapicService):
    api = "google.cloud.aiplatform.v1.ModelService"

    def __init__(
        self,
        *,
        clock: Clock,
        projects: Projects,
        operations: Operations,
        versions: ModelVersions,
        files: ModelFiles,
        evaluations: ModelEvaluations,
        objects: ObjectStore,
    ) -> None:
        self._clock = clock
        self._projects = projects
        self._operations = operations
        self._versions = versions
        self._files = files
        self._evaluations = evaluations
        self._objects = objects

    def upload_model(self, request: aiplatform_v1.UploadModelRequest, context: Context) -> Message:
        """Register a model version; its files are checked and copied inside the operation."""
        upload = self._versions.prepare(request.parent, request.model, request.model_id, request.parent_model)

        def work(_: object) -> aiplatform_v1.UploadModelResponse:
            model = self._versions.add(upload)
            return aiplatform_v1.UploadModelResponse(model=model.name, model_version_id=model.version_id)

        metadata = aiplatform_v1.UploadModelOperationMetadata()
        operation: Message = self._operations.start(upload.name, metadata, work, context)
        return operation

    def copy_model(self, request: aiplatform_v1.CopyModelRequest, context: Context) -> Message:
        """Register a copy of a version: its files and what was said of it, without aliases and evaluations."""
        upload = self._versions.prepare_copy(request)

        def work(_: object) -> aiplatform_v1.CopyModelResponse:
            model = self._versions.add(upload)
            return aiplatform_v1.CopyModelResponse(model=model.name, model_version_id=model.version_id)

        metadata = aiplatform_v1.CopyModelOperationMetadata()
        operation: Message = self._operations.start(upload.name, metadata, work, context)
        return operation

    def export_model(self, request: aiplatform_v1.ExportModelRequest, context: Context) -> Message:
        """Write the service's copy of a version's files to a folder of its own in a bucket."""
        version = self._versions.resolve(request.name)
        model = self._versions.get(version)
        directory = resources.export_directory(model, request.output_config, self._clock.now())
        metadata = aiplatform_v1.ExportModelOperationMetadata()
        metadata.output_info.artifact_output_uri = directory.rstrip("/")

        def work(running: Running) -> aiplatform_v1.ExportModelResponse:
            if not self._files.export(version, directory, running.cancelled.is_set):
                raise Cancelled("The operation was cancelled.")
            return aiplatform_v1.ExportModelResponse()

        operation: Message = self._operations.start(model.name, metadata, work, context)
        return operation

    def update_explanation_dataset(
        self, request: aiplatform_v1.UpdateExplanationDatasetRequest, context: Context
    ) -> Message:
        """Add examples to those that a model is explained by: their place is noted in its explanation_spec."""
        model = self._versions.get(request.model)
        resources.check_explained_by_examples(model)

        def add(stored: Model) -> None:
            stored.explanation_spec.parameters.examples.MergeFrom(request.examples)

        def work(_: object) -> aiplatform_v1.UpdateExplanationDatasetResponse:
            for uri in request.examples.example_gcs_source.gcs_source.uris:
                if not any(True for _ in self._objects.names(uri.partition("*")[0])):
                    raise NotFound(f"There is no object {uri} for the explanation dataset.")
            self._versions.change_version(model.name, model.version_id, etag="", change=add)
            return aiplatform_v1.UpdateExplanationDatasetResponse()

        metadata = aiplatform_v1.UpdateExplanationDatasetOperationMetadata()
        operation: Message = self._operations.start(model.name, metadata, work, context)
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

    def list_model_version_checkpoints(
        self, request: aiplatform_v1.ListModelVersionCheckpointsRequest, context: Context
    ) -> aiplatform_v1.ListModelVersionCheckpointsResponse:
        """None: they come of tuning Google's generative models, and of nothing that is registered here."""
        self._versions.get(request.name)
        page = pagination.page(
            list[aiplatform_v1.ModelVersionCheckpoint](), request, aiplatform_v1.ModelVersionCheckpoint
        )
        return aiplatform_v1.ListModelVersionCheckpointsResponse(
            checkpoints=page.items, next_page_token=page.next_page_token
        )

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
        self._versions.delete(request.name, self._evaluations.forget)
        return self._deleted(request.name, context)

    def delete_model_version(self, request: aiplatform_v1.DeleteModelVersionRequest, context: Context) -> Message:
        self._versions.delete_version(request.name, self._evaluations.forget)
        return self._deleted(request.name, context)

    def _deleted(self, name: str, context: Context) -> Message:
        location = resources.parse_model_name(name, self._projects).location
        operation: Message = self._operations.finished(
            location, aiplatform_v1.DeleteOperationMetadata(), protobuf.Empty(), context
        )
        return operation

    # Evaluations

    def import_model_evaluation(
        self, request: aiplatform_v1.ImportModelEvaluationRequest, context: Context
    ) -> aiplatform_v1.ModelEvaluation:
        return self._evaluations.add(request.parent, request.model_evaluation)

    def get_model_evaluation(
        self, request: aiplatform_v1.GetModelEvaluationRequest, context: Context
    ) -> aiplatform_v1.ModelEvaluation:
        return self._evaluations.get(request.name)

    def list_model_evaluations(
        self, request: aiplatform_v1.ListModelEvaluationsRequest, context: Context
    ) -> aiplatform_v1.ListModelEvaluationsResponse:
        page = pagination.page(
            self._evaluations.of_version(request.parent),
            request,
            aiplatform_v1.ModelEvaluation,
            filterable=("display_name", "metrics_schema_uri", "create_time", "name"),
            canonical=self._projects.canonical,
        )
        return aiplatform_v1.ListModelEvaluationsResponse(
            model_evaluations=page.items, next_page_token=page.next_page_token
        )

    def batch_import_model_evaluation_slices(
        self, request: aiplatform_v1.BatchImportModelEvaluationSlicesRequest, context: Context
    ) -> aiplatform_v1.BatchImportModelEvaluationSlicesResponse:
        return aiplatform_v1.BatchImportModelEvaluationSlicesResponse(
            imported_model_evaluation_slices=self._evaluations.add_slices(
                request.parent, request.model_evaluation_slices
            )
        )

    def get_model_evaluation_slice(
        self, request: aiplatform_v1.GetModelEvaluationSliceRequest, context: Context
    ) -> aiplatform_v1.ModelEvaluationSlice:
        return self._evaluations.get_slice(request.name)

    def list_model_evaluation_slices(
        self, request: aiplatform_v1.ListModelEvaluationSlicesRequest, context: Context
    ) -> aiplatform_v1.ListModelEvaluationSlicesResponse:
        page = pagination.page(
            self._evaluations.slices(request.parent),
            request,
            aiplatform_v1.ModelEvaluationSlice,
            filterable=("slice_.dimension",),
        )
        return aiplatform_v1.ListModelEvaluationSlicesResponse(
            model_evaluation_slices=page.items, next_page_token=page.next_page_token
        )

    def batch_import_evaluated_annotations(
        self, request: aiplatform_v1.BatchImportEvaluatedAnnotationsRequest, context: Context
    ) -> aiplatform_v1.BatchImportEvaluatedAnnotationsResponse:
        count = self._evaluations.add_annotations(request.parent, request.evaluated_annotations)
        return aiplatform_v1.BatchImportEvaluatedAnnotationsResponse(imported_evaluated_annotations_count=count)


def _base_model_name(model: Model) -> str:
    return str(model.base_model_source.model_garden_source.public_model_name)
