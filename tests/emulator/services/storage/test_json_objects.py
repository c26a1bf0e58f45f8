"""An object that happens to be JSON is sent as it is stored, unlike the API's own JSON answers."""

from __future__ import annotations

import json

import pytest
from google.cloud.storage import Client

from tests.conftest import Emulator

DOCUMENT = json.dumps({"numbers": list(range(2000))}).encode()


@pytest.fixture
def blob(emulator: Emulator, project: str):  # type: ignore[no-untyped-def]  # the storage client has no types
    with emulator.exported():
        bucket = Client(project=project).create_bucket(f"{project}-json")
    made = bucket.blob("metrics.json")
    made.upload_from_string(DOCUMENT, content_type="application/json")
    return made


def test_json_object_is_downloaded_whole(blob) -> None:  # type: ignore[no-untyped-def]
    assert blob.download_as_bytes(timeout=20) == DOCUMENT


def test_range_of_a_json_object_is_that_range(blob) -> None:  # type: ignore[no-untyped-def]
    assert blob.download_as_bytes(start=1, end=1500, timeout=20) == DOCUMENT[1:1501]
