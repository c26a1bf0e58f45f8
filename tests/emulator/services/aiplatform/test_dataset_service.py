"""Managed datasets through the official clients and the SDK."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import Aborted, BadRequest, Conflict, MethodNotImplemented, NotFound
from google.cloud import aiplatform
from google.cloud.aiplatform_v1 import Dataset, DatasetServiceClient, ExportDataConfig, GcsSource, ImportDataConfig
from google.cloud.storage import Bucket, Client
from google.protobuf import json_format, struct_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import LOCATION, Emulator

SCHEMA = "gs://google-cloud-aiplatform/schema/dataset/metadata/{}_1.0.0.yaml"
ROWS = [f"{number},{number % 7},trip" for number in range(200)]


@pytest.fixture(params=["grpc", "rest"])
def datasets(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[DatasetServiceClient]:
    client = emulator.client(DatasetServiceClient, transport=request.param)
    with client:
        yield client


@pytest.fixture
def bucket(emulator: Emulator, project: str) -> Bucket:
    bucket = Client(project=project).create_bucket(f"{project}-data")
    bucket.blob("trips.csv").upload_from_string("\n".join(["n,day,kind", *ROWS]))
    return bucket


def tabular(*uris: str, kind: str = "tabular", **fields: Any) -> Dataset:
    metadata = {"inputConfig": {"gcsSource": {"uri": list(uris)}}}
    return Dataset(
        display_name="trips",
        metadata_schema_uri=SCHEMA.format(kind),
        metadata=json_format.ParseDict(fields.pop("metadata", metadata), struct_pb2.Value()),
        **fields,
    )


def test_dataset_is_created_read_changed_and_deleted(datasets: DatasetServiceClient, parent: str) -> None:
    operation = datasets.create_dataset(parent=parent, dataset=tabular("gs://some/a.csv", labels={"team": "ml"}))
    name = operation.result().name
    assert operation.operation.name.startswith(f"{name}/operations/")
    made = datasets.get_dataset(name=name)
    assert made.etag
    assert made.metadata_artifact.startswith(name.rpartition("/datasets/")[0] + "/metadataStores/default/artifacts/")
    assert made.labels == {"team": "ml", "aiplatform.googleapis.com/dataset_metadata_schema": "TABLE"}
    metadata: Any = made.metadata
    assert metadata["inputConfig"]["gcsSource"]["uri"] == ["gs://some/a.csv"]
    assert made.data_item_count == 0
    changed = datasets.update_dataset(
        dataset=Dataset(name=name, display_name="rides", labels={"a": "b"}),
        update_mask=FieldMask(paths=["display_name"]),
    )
    assert (changed.display_name, dict(changed.labels)) == ("rides", dict(made.labels))
    with pytest.raises((Aborted, Conflict), match="etag does not match"):
        datasets.update_dataset(dataset=made, update_mask=FieldMask(paths=["labels"]))
    assert datasets.delete_dataset(name=name).done()
    with pytest.raises(NotFound, match="does not exist"):
        datasets.get_dataset(name=name)


def test_datasets_are_listed_by_filter_and_order(datasets: DatasetServiceClient, parent: str) -> None:
    for display_name, kind in (("b", "tabular"), ("a", "tabular"), ("c", "image")):
        dataset = tabular("gs://some/a.csv", kind=kind, labels={"name": display_name})
        dataset.display_name = display_name
        datasets.create_dataset(parent=parent, dataset=dataset).result()

    def names(**request: str) -> list[str]:
        return [dataset.display_name for dataset in datasets.list_datasets(request={"parent": parent, **request})]

    assert names() == ["c", "a", "b"]
    assert names(order_by="display_name") == ["a", "b", "c"]
    assert names(filter=f'metadata_schema_uri="{SCHEMA.format("image")}"') == ["c"]
    assert names(filter='labels.name="a" OR display_name="b"', order_by="create_time desc") == ["a", "b"]
    with pytest.raises(BadRequest):
        names(filter='colour="red"')


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (tabular(), r"inputConfig\.gcsSource\.uri; Message: Required"),
        (tabular("s3://x"), "'s3://x' is not a Cloud Storage URI"),
        (tabular(metadata={"gcsSource": {}}), "One of gcsSource and bigquerySource must be set"),
        (tabular(metadata={"inputConfig": {"bigquerySource": {"uri": "p.d.t"}}}), "is not a BigQuery table"),
        (tabular("gs://some/a.csv", kind="smell"), "Unknown metadata_schema_uri"),
        (tabular("gs://some/a.csv", labels={"A": "b"}), "is not a label key"),
    ],
)
def test_bad_dataset_is_invalid_argument(
    datasets: DatasetServiceClient, parent: str, dataset: Dataset, message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        datasets.create_dataset(parent=parent, dataset=dataset)


def test_import_is_refused_by_name(datasets: DatasetServiceClient, parent: str) -> None:
    source = GcsSource(uris=["gs://some/a.jsonl"])
    config = ImportDataConfig(gcs_source=source, import_schema_uri="gs://some/schema.yaml")
    table = datasets.create_dataset(parent=parent, dataset=tabular("gs://some/a.csv")).result()
    with pytest.raises(BadRequest, match="nothing is imported to it"):
        datasets.import_data(name=table.name, import_configs=[config])
    images = datasets.create_dataset(parent=parent, dataset=tabular(kind="image", metadata={})).result()
    assert images.metadata["dataItemSchemaUri"].endswith("dataitem/image_1.0.0.yaml")
    with pytest.raises(MethodNotImplemented, match="import_data of image datasets is not emulated yet"):
        datasets.import_data(name=images.name, import_configs=[config])


def test_export_writes_csv_in_parts(datasets: DatasetServiceClient, parent: str, bucket: Bucket) -> None:
    made = datasets.create_dataset(parent=parent, dataset=tabular(f"gs://{bucket.name}/*.csv")).result()
    config = ExportDataConfig(
        gcs_destination={"output_uri_prefix": f"gs://{bucket.name}/out/"},
        fraction_split={"training_fraction": 0.5, "validation_fraction": 0.25, "test_fraction": 0.25},
    )
    files = datasets.export_data(name=made.name, export_config=config).result().exported_files
    assert [uri.rpartition("/")[2] for uri in files] == [
        f"{part}-00001-of-00001.csv" for part in ("training", "validation", "test")
    ]
    assert f"gs://{bucket.name}/out/export-data-trips-20" in files[0]
    rows = [line for uri in files for line in _lines(bucket, uri)]
    assert sorted(rows) == sorted(ROWS + ["n,day,kind"] * 3)


def test_export_of_missing_file_fails_the_operation(
    datasets: DatasetServiceClient, parent: str, bucket: Bucket
) -> None:
    made = datasets.create_dataset(parent=parent, dataset=tabular(f"gs://{bucket.name}/none.csv")).result()
    config = ExportDataConfig(gcs_destination={"output_uri_prefix": f"gs://{bucket.name}/out/"})
    with pytest.raises(NotFound, match=r"none\.csv"):
        datasets.export_data(name=made.name, export_config=config).result()


def test_sdk_trains_on_a_tabular_dataset(emulator: Emulator, project: str, bucket: Bucket, tmp_path: Any) -> None:
    """As the documentation teaches it: TabularDataset, CustomTrainingJob, job.run(dataset=...)."""
    script = tmp_path / "task.py"
    script.write_text(
        "import csv, glob, json, os\n"
        "assert os.environ['AIP_DATA_FORMAT'] == 'csv'\n"
        "counts = []\n"
        "for part in ('TRAINING', 'VALIDATION', 'TEST'):\n"
        "    uri = os.environ[f'AIP_{part}_DATA_URI']\n"
        "    rows = [row for path in glob.glob(uri.replace('gs://', '/gcs/')) for row in csv.DictReader(open(path))]\n"
        "    counts.append((uri, len(rows), sorted({row['day'] for row in rows})))\n"
        "folder = os.environ['AIP_MODEL_DIR'].replace('gs://', '/gcs/')\n"
        "os.makedirs(folder)\n"
        "open(folder + 'model.json', 'w').write(json.dumps(counts))\n"
    )
    aiplatform.init(project=project, location=LOCATION, staging_bucket=f"gs://{bucket.name}")
    dataset = aiplatform.TabularDataset.create(display_name="trips", gcs_source=f"gs://{bucket.name}/trips.csv")
    assert sorted(dataset.column_names) == ["day", "kind", "n"]
    assert [found.resource_name for found in aiplatform.TabularDataset.list()] == [dataset.resource_name]
    job = aiplatform.CustomTrainingJob(
        display_name="taxi",
        script_path=str(script),
        container_uri="us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest",
    )
    job.run(dataset=dataset, base_output_dir=f"gs://{bucket.name}/run", predefined_split_column_name=None)
    counts = json.loads(bucket.blob("run/model/model.json").download_as_text())
    assert [count for _, count, _ in counts] == pytest.approx([160, 20, 20], abs=2)
    assert sum(count for _, count, _ in counts) == 200
    assert counts[0][2] == list("0123456")
    assert f"gs://{bucket.name}/run/dataset-{dataset.name}-tables-20" in counts[0][0]
    assert counts[2][0].endswith("/test-*.csv")
    dataset.delete()


def _lines(bucket: Bucket, uri: str) -> list[str]:
    text = bucket.blob(uri.removeprefix(f"gs://{bucket.name}/")).download_as_text()
    return [",".join(row) for row in csv.reader(io.StringIO(text))]
