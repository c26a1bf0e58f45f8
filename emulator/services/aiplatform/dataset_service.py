"""Vertex AI DatasetService: managed datasets.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1#datasetservice
"""

from __future__ import annotations

import re
from typing import Any

from google.api_core.exceptions import InvalidArgument, MethodNotImplemented
from selfloop_apis import protobuf
from selfloop_apis.aiplatform_v1 import (
    CreateDatasetOperationMetadata,
    CreateDatasetRequest,
    Dataset,
    DeleteDatasetRequest,
    DeleteOperationMetadata,
    ExportDataOperationMetadata,
    ExportDataRequest,
    ExportDataResponse,
    GetDatasetRequest,
    ImportDataRequest,
    ListDatasetsRequest,
    ListDatasetsResponse,
    UpdateDatasetRequest,
)

from emulator.core import field_masks, pagination
from emulator.core.clock import Clock
from emulator.core.ids import new_etag, new_id
from emulator.core.interfaces import ObjectStore
from emulator.core.messages import stamp
from emulator.core.operations import Operations, Running
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform import data_splits
from emulator.services.aiplatform import dataset_resources as resources
from emulator.services.aiplatform.csv_table import CsvTable
from emulator.services.aiplatform.dataset_exports import Exporter, export_time
from emulator.services.aiplatform.metadata.tracked import TrackedResources
from emulator.services.aiplatform.model_resources import check_etag
from emulator.services.aiplatform.names import location_of, new_parent, resource_name
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.validation import FoundErrors

_UPDATABLE = ("display_name", "description", "labels")


class DatasetService(GapicService):
    api = "google.cloud.aiplatform.v1.DatasetService"

    def __init__(
        self,
        *,
        state: AiplatformState,
        clock: Clock,
        projects: Projects,
        operations: Operations,
        objects: ObjectStore,
        exporter: Exporter,
        tracked: TrackedResources,
    ) -> None:
        self._tracked = tracked
        self._datasets = state.datasets
        self._clock = clock
        self._projects = projects
        self._operations = operations
        self._objects = objects
        self._exporter = exporter

    def create_dataset(self, request: CreateDatasetRequest, context: Context) -> Any:
        """Store a dataset. Its files are first read when it is used."""
        location = new_parent(self._projects, request.parent)
        dataset = Dataset()
        dataset.CopyFrom(request.dataset)
        resources.check_dataset(dataset)
        dataset.name = f"{location.parent}/datasets/{new_id()}"
        resources.complete(dataset)

        def work(_: Running) -> Dataset:
            stored = Dataset()
            stored.CopyFrom(dataset)
            now = self._clock.now()
            stamp(stored.create_time, now)
            stamp(stored.update_time, now)
            stored.etag = new_etag()
            stored.metadata_artifact = self._tracked.add_dataset(location, stored)
            self._datasets.insert(stored)
            # The service answers with what was given, not with what it has filled in.
            return dataset

        return self._operations.start(dataset.name, CreateDatasetOperationMetadata(), work, context)

    def get_dataset(self, request: GetDatasetRequest, context: Context) -> Dataset:
        return field_masks.read(self._datasets.get(self._name(request.name)), request.read_mask.paths)

    def list_datasets(self, request: ListDatasetsRequest, context: Context) -> ListDatasetsResponse:
        page = pagination.page(
            self._datasets.list(location_of(self._projects, request.parent).parent),
            request,
            Dataset,
            filterable=("display_name", "metadata_schema_uri", "labels"),
            sortable=("display_name", "create_time", "update_time"),
        )
        return ListDatasetsResponse(datasets=page.items, next_page_token=page.next_page_token)

    def update_dataset(self, request: UpdateDatasetRequest, context: Context) -> Dataset:
        """Change display name, description and labels; those of the service stay."""

        def change(stored: Dataset) -> None:
            check_etag(request.dataset.etag, stored.etag)
            field_masks.update(stored, request.dataset, request.update_mask.paths, _UPDATABLE)
            resources.check_dataset(stored)
            resources.complete(stored)
            stored.etag = new_etag()
            stamp(stored.update_time, self._clock.now())

        return self._datasets.update(self._name(request.dataset.name), change)

    def delete_dataset(self, request: DeleteDatasetRequest, context: Context) -> Any:
        """Forget a dataset; its files stay, they are the user's."""
        name = self._name(request.name)
        self._datasets.delete(name)
        parent = location_of(self._projects, name).parent
        return self._operations.finished(parent, DeleteOperationMetadata(), protobuf.Empty(), context)

    def import_data(self, request: ImportDataRequest, context: Context) -> Any:
        """Refused: tabular datasets name their data when they are made, and others are not emulated yet."""
        dataset = self._datasets.get(self._name(request.name))
        kind = resources.kind_of(dataset)
        if kind in ("tabular", "time_series"):
            raise InvalidArgument(
                f"The Dataset `{dataset.name}` is tabular: nothing is imported to it; "
                "its metadata.inputConfig names the data."
            )
        raise MethodNotImplemented(
            f"DatasetService.import_data of {kind} datasets is not emulated yet; "
            "add it to emulator/services/aiplatform/dataset_service.py"
        )

    def export_data(self, request: ExportDataRequest, context: Context) -> Any:
        """Write a tabular dataset as CSV, in parts when a fraction_split is asked for."""
        dataset = self._datasets.get(self._name(request.name))
        config = request.export_config
        errors = FoundErrors()
        errors.check_gcs_uri(
            config.gcs_destination.output_uri_prefix, "export_config.gcs_destination.output_uri_prefix"
        )
        errors.raise_any()
        uris = resources.csv_uris(dataset)
        if config.HasField("filter_split"):
            raise InvalidArgument("filter_split is not supported for tabular datasets; they have no data items.")
        is_split = config.HasField("fraction_split")
        if is_split:
            data_splits.fractions(config.fraction_split)
        prefix = config.gcs_destination.output_uri_prefix.rstrip("/")
        display_name = re.sub(r"[^\w.-]", "_", dataset.display_name)
        folder = f"{prefix}/export-data-{display_name}-{export_time(self._clock.now())}"

        def work(running: Running) -> ExportDataResponse:
            table = CsvTable(self._objects, uris, running.cancelled.is_set)
            assign = data_splits.assigner(config, table) if is_split else lambda row: "data"
            parts = data_splits.ROLES if is_split else ("data",)
            export = self._exporter.write(table, assign, parts, folder)
            return ExportDataResponse(exported_files=[uri for part in parts for uri in export.files[part]])

        metadata = ExportDataOperationMetadata(gcs_output_directory=folder)
        return self._operations.start(dataset.name, metadata, work, context)

    def _name(self, name: str) -> str:
        return resource_name(self._projects, name, "datasets")
