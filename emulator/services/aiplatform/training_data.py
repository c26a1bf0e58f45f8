"""What a training pipeline's code gets of a managed dataset: files in Cloud Storage and the variables that name them.

Source: the comments of InputDataConfig in training_pipeline.proto, and
https://cloud.google.com/vertex-ai/docs/training/using-managed-datasets
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from google.api_core.exceptions import InvalidArgument, MethodNotImplemented
from selfloop_apis.aiplatform_v1 import Dataset, InputDataConfig

from emulator.core.interfaces import ObjectStore
from emulator.core.state import Collection
from emulator.services.aiplatform import data_splits
from emulator.services.aiplatform.csv_table import CsvTable
from emulator.services.aiplatform.data_splits import ROLES
from emulator.services.aiplatform.dataset_exports import Exporter, export_time
from emulator.services.aiplatform.dataset_resources import csv_uris
from emulator.services.aiplatform.validation import FoundErrors


class TrainingData:
    """Exports datasets for training."""

    def __init__(self, datasets: Collection[Dataset], objects: ObjectStore, exporter: Exporter) -> None:
        self._datasets = datasets
        self._objects = objects
        self._exporter = exporter

    def check(self, parent: str, config: InputDataConfig) -> None:
        """Look at everything but the rows: NotFound, InvalidArgument, or MethodNotImplemented by name."""
        errors = FoundErrors()
        if not config.dataset_id:
            errors.add("input_data_config.dataset_id", "Required field is not set.")
        errors.raise_any()
        uris = csv_uris(self._dataset(parent, config))
        if config.HasField("bigquery_destination"):
            raise MethodNotImplemented(
                "input_data_config.bigquery_destination is not emulated yet; name a gcs_destination."
            )
        prefix = config.gcs_destination.output_uri_prefix
        if not prefix:
            errors.add("input_data_config.gcs_destination", "Required field is not set.")
        else:
            errors.check_gcs_uri(prefix, "input_data_config.gcs_destination.output_uri_prefix")
        for name in ("annotations_filter", "annotation_schema_uri", "saved_query_id"):
            if getattr(config, name):
                errors.add(f"input_data_config.{name}", "Tabular datasets have no annotations.")
        errors.raise_any()
        data_splits.check_split(config)
        if not uris:
            raise InvalidArgument(f'The Dataset "{config.dataset_id}" names no files.')

    def export(
        self,
        parent: str,
        config: InputDataConfig,
        moment: datetime,
        is_cancelled: Callable[[], bool],
        report: Callable[[str], None],
    ) -> dict[str, str]:
        """Write training, validation and test below the destination; gives back the code's variables.

        moment: of the call that asked for the training. report: gets a line about what was written.
        """
        dataset = self._dataset(parent, config)
        table = CsvTable(self._objects, csv_uris(dataset), is_cancelled)
        # The word for tabular data was not seen in the real service.
        prefix = config.gcs_destination.output_uri_prefix.rstrip("/")
        folder = f"{prefix}/dataset-{config.dataset_id}-tables-{export_time(moment)}"
        assign = data_splits.assigner(config, table)
        export = self._exporter.write(table, assign, ROLES, folder)
        counts = ", ".join(f"{export.rows[role]} for {role}" for role in ROLES)
        report(f"Exported the rows of dataset {config.dataset_id} to {folder}: {counts}.")
        variables = {f"AIP_{role.upper()}_DATA_URI": f"{folder}/{role}-*.csv" for role in ROLES}
        return {"AIP_DATA_FORMAT": "csv"} | variables

    def artifact(self, parent: str, config: InputDataConfig) -> str:
        """The name of the artifact of the dataset that is asked for; empty where none is, or it is gone."""
        dataset = self._datasets.find(f"{parent}/datasets/{config.dataset_id}")
        return "" if dataset is None else dataset.metadata_artifact

    def _dataset(self, parent: str, config: InputDataConfig) -> Dataset:
        """Raises NotFound."""
        return self._datasets.get(f"{parent}/datasets/{config.dataset_id}")
