"""Service Usage through the discovery client and gcloud."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from googleapiclient.errors import HttpError

from tests.conftest import Emulator, require_program
from tests.emulator.services.discovery import discovery_client


@pytest.fixture
def usage(emulator: Emulator) -> Iterator[Any]:
    with discovery_client(emulator, "serviceusage", "v1") as service:
        yield service


def test_get_shows_a_service_by_the_projects_number(usage: Any, project: str) -> None:
    found = usage.services().get(name=f"projects/{project}/services/aiplatform.googleapis.com").execute()
    assert found["state"] == "ENABLED"
    assert found["config"]["title"] == "Vertex AI API"
    number = found["parent"].removeprefix("projects/")
    assert number.isdecimal()
    assert found["name"] == f"projects/{number}/services/aiplatform.googleapis.com"


def test_get_of_an_unknown_service_is_permission_denied(usage: Any, project: str) -> None:
    with pytest.raises(HttpError, match="Not found or permission denied") as caught:
        usage.services().get(name=f"projects/{project}/services/nosuch.googleapis.com").execute()
    assert caught.value.status_code == 403


def test_enable_and_disable_change_one_project_through_operations(usage: Any, project: str) -> None:
    name = f"projects/{project}/services/compute.googleapis.com"
    assert usage.services().get(name=name).execute()["state"] == "DISABLED"
    started = usage.services().enable(name=name, body={}).execute()
    assert set(started) == {"name"}
    done = usage.operations().get(name=started["name"]).execute()
    assert done["done"]
    assert done["response"]["service"]["state"] == "ENABLED"
    assert usage.services().get(name=name).execute()["state"] == "ENABLED"
    other = f"projects/{project}-other/services/compute.googleapis.com"
    assert usage.services().get(name=other).execute()["state"] == "DISABLED"
    again = usage.services().enable(name=name, body={}).execute()
    assert (again["name"], again["done"]) == ("operations/noop.DONE_OPERATION", True)
    usage.services().disable(name=name, body={}).execute()
    assert usage.services().get(name=name).execute()["state"] == "DISABLED"


def test_batch_calls_take_several(usage: Any, project: str) -> None:
    parent = f"projects/{project}"
    ids = ["compute.googleapis.com", "run.googleapis.com"]
    usage.services().batchEnable(parent=parent, body={"serviceIds": ids}).execute()
    names = [f"{parent}/services/{name}" for name in ids]
    found = usage.services().batchGet(parent=parent, names=names).execute()["services"]
    assert [item["state"] for item in found] == ["ENABLED", "ENABLED"]
    with pytest.raises(HttpError) as caught:
        usage.services().batchEnable(parent=parent, body={"serviceIds": []}).execute()
    assert caught.value.status_code == 400


def test_list_filters_and_pages(usage: Any, project: str) -> None:
    found: list[str] = []
    call = usage.services().list(parent=f"projects/{project}", filter="state:ENABLED", pageSize=7)
    while call is not None:
        answer = call.execute()
        assert len(answer["services"]) <= 7
        found += [item["config"]["name"] for item in answer["services"]]
        call = usage.services().list_next(call, answer)
    assert found == sorted(found)
    assert "storage.googleapis.com" in found
    assert "compute.googleapis.com" not in found
    with pytest.raises(HttpError, match="Invalid filter"):
        usage.services().list(parent=f"projects/{project}", filter="title:x").execute()


def test_gcloud_lists_enables_and_disables(emulator: Emulator, project: str) -> None:
    gcloud = require_program("gcloud")

    def run(*arguments: str) -> str:
        result = emulator.run(gcloud, "services", *arguments, f"--project={project}")
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    assert "finished successfully" in run("enable", "compute.googleapis.com")
    enabled = json.loads(run("list", "--enabled", "--format=json"))
    assert "compute.googleapis.com" in {item["config"]["name"] for item in enabled}
    run("disable", "compute.googleapis.com")
    assert "compute.googleapis.com" not in run("list", "--enabled")


@pytest.mark.parametrize("body", ["[]", '"text"', "7", "{", '{"serviceIds": 7}'])
def test_body_that_is_no_request_is_an_invalid_argument(emulator: Emulator, project: str, body: str) -> None:
    answer = requests.post(
        f"https://serviceusage.googleapis.com/v1/projects/{project}/services:batchEnable",
        data=body,
        headers={"Authorization": f"Bearer {emulator.token}", "Content-Type": "application/json"},
        timeout=30,
    )
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
