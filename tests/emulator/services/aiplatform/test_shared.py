"""Names, machine types and checks that the services of Vertex AI share."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.api_core.exceptions import InvalidArgument, PermissionDenied

from emulator.core.clock import MovableClock
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.aiplatform.machine_types import check_machine_type
from emulator.services.aiplatform.names import location_of, resource_name
from emulator.services.aiplatform.validation import FoundErrors


@pytest.fixture
def projects(tmp_path: Path) -> Projects:
    return Projects(Database(tmp_path / "state" / "emulator.db"), MovableClock())


def test_location_of_reads_parents_and_names_below_them(projects: Projects) -> None:
    number = projects.get("test-project").number
    for name in (
        "projects/test-project/locations/us-central1",
        f"projects/{number}/locations/us-central1/customJobs/1",
    ):
        location = location_of(projects, name)
        assert location.parent == f"projects/{number}/locations/us-central1"
        assert (location.project_id, location.project_number) == ("test-project", number)
        assert location.region == "us-central1"


@pytest.mark.parametrize(
    "name",
    ["", "projects/test-project", "projects/test-project/locations/", "projects/test-project/locations/A b", "/x"],
)
def test_location_of_anything_else_is_invalid_argument(projects: Projects, name: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid resource name"):
        location_of(projects, name)


def test_resource_name_puts_the_number_in(projects: Projects) -> None:
    number = projects.get("test-project").number
    name = resource_name(
        projects, "projects/test-project/locations/l/models/m@2/evaluations/3", "models", "evaluations"
    )
    assert name == f"projects/{number}/locations/l/models/m@2/evaluations/3"


@pytest.mark.parametrize(
    "name",
    [
        "projects/test-project/locations/l/models",
        "projects/test-project/locations/l/models/",
        "projects/test-project/locations/l/models/1/evaluations/2",
        "projects/test-project/locations/l/models/../endpoints/1",
        "projects/test-project/locations/l/endpoints/1",
        "projects/test-project/locations/l/models/1\n",
    ],
)
def test_resource_name_of_another_form_is_invalid_argument(projects: Projects, name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"is not projects/\*/locations/\*/models/\*"):
        resource_name(projects, name, "models")


def test_resource_name_of_an_unknown_number_is_permission_denied(projects: Projects) -> None:
    with pytest.raises(PermissionDenied):
        resource_name(projects, "projects/999999999999/locations/l/models/1", "models")


@pytest.mark.parametrize(
    "machine_type",
    ["n1-standard-4", "e2-highcpu-16", "c2d-highmem-112", "a2-highgpu-8g", "g2-standard-12", "cloud-tpu"],
)
def test_machine_types_that_train(machine_type: str) -> None:
    check_machine_type(machine_type, training=True)


@pytest.mark.parametrize(
    "machine_type", ["n1-standard-5", "standard-4", "n1-standard", "x", "N1-standard-4", "4", "-4"]
)
def test_machine_types_that_there_are_not(machine_type: str) -> None:
    for training in (True, False):
        with pytest.raises(InvalidArgument, match=f'^400 Machine type "{machine_type}" is not supported.$'):
            check_machine_type(machine_type, training=training)


def test_smallest_machine_serves_and_does_not_train() -> None:
    check_machine_type("n1-standard-2", training=False)
    with pytest.raises(InvalidArgument):
        check_machine_type("n1-standard-2", training=True)


@pytest.mark.parametrize(
    ("labels", "valid"),
    [
        ({"env": "prod", "a_b-c": "1"}, True),
        ({"größe": "groß"}, True),
        ({"env": ""}, True),
        ({"k" * 64: "v" * 64}, True),
        ({"k" * 65: "v"}, False),
        ({"k": "v" * 65}, False),
        ({"": "v"}, False),
        ({"1a": "v"}, False),
        ({"Env": "v"}, False),
        ({"env": "Prod"}, False),
        ({"e v": "v"}, False),
        ({f"k{number}": "v" for number in range(65)}, False),
    ],
)
def test_labels(labels: dict[str, str], valid: bool) -> None:
    errors = FoundErrors()
    errors.check_labels(labels)
    if valid:
        errors.raise_any()
        return
    with pytest.raises(InvalidArgument, match="Field: labels"):
        errors.raise_any()


@pytest.mark.parametrize(
    ("uri", "valid"),
    [
        ("gs://bucket", True),
        ("gs://bucket/a/b c", True),
        ("gs://my.bucket_1/x", True),
        ("gs://", False),
        ("gs:///x", False),
        ("s3://bucket/x", False),
        ("/gcs/bucket/x", False),
        ("gs://Bucket/x", False),
    ],
)
def test_gcs_uris(uri: str, valid: bool) -> None:
    errors = FoundErrors()
    errors.check_gcs_uri(uri, "output")
    if valid:
        errors.raise_any()
        return
    with pytest.raises(InvalidArgument, match=r"\t1\.Field: output; Message: .*is not a Cloud Storage URI.*\t"):
        errors.raise_any()
