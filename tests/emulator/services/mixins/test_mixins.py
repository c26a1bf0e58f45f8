"""Operations, locations and IAM as every API has them, through Vertex AI's clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.cloud.aiplatform_v1 import Endpoint, EndpointServiceClient
from google.cloud.aiplatform_v1beta1 import EndpointServiceClient as BetaEndpointServiceClient
from google.cloud.location import locations_pb2
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.longrunning import operations_pb2
from selfloop_apis import aiplatform_v1, longrunning

from emulator.core.clock import MovableClock
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import Caller, Context
from emulator.core.state import Database
from emulator.services.mixins import OperationsService
from emulator.services.mixins.operations import MOST_WAITS
from tests.conftest import Emulator, wait_until


@pytest.fixture(params=["grpc", "rest"])
def endpoints(emulator: Emulator, request: pytest.FixtureRequest) -> EndpointServiceClient:
    return emulator.client(EndpointServiceClient, transport=request.param)


@pytest.fixture
def finished(endpoints: EndpointServiceClient, parent: str) -> Any:
    operation = endpoints.create_endpoint(parent=parent, endpoint=Endpoint(display_name="one"))
    operation.result(timeout=30)
    return operation.operation


def test_operation_is_found_by_its_long_and_its_short_name(
    endpoints: EndpointServiceClient, finished: Any, parent: str
) -> None:
    identifier = finished.name.rpartition("/")[2]
    for name in (finished.name, f"{parent}/operations/{identifier}"):
        found = endpoints.get_operation(operations_pb2.GetOperationRequest(name=name))
        assert found.done
        assert found.name == finished.name
    with pytest.raises(NotFound):
        endpoints.get_operation(operations_pb2.GetOperationRequest(name=f"{parent}/operations/123"))


def test_operation_is_read_under_the_other_version_too(
    emulator: Emulator, endpoints: EndpointServiceClient, finished: Any
) -> None:
    beta = emulator.client(BetaEndpointServiceClient, transport=endpoints.transport.kind)
    assert beta.get_operation(operations_pb2.GetOperationRequest(name=finished.name)).done


@pytest.mark.parametrize("version", ["v1", "v1beta1", "ui"])
def test_operation_is_read_at_every_address_that_clients_poll(
    emulator: Emulator, finished: Any, parent: str, version: str
) -> None:
    """gcloud polls at v1beta1 whatever it called, generated Go clients at /ui/."""
    host = "https://us-central1-aiplatform.googleapis.com"
    headers = {"Authorization": f"Bearer {emulator.token}"}
    for name in (finished.name, f"{parent}/operations/{finished.name.rpartition('/')[2]}"):
        answer = requests.get(f"{host}/{version}/{name}", headers=headers, timeout=30)
        assert answer.json()["done"], answer.text
        # The types are those of the version that made it.
        assert answer.json()["response"]["@type"] == "type.googleapis.com/google.cloud.aiplatform.v1.Endpoint"


def test_operations_of_a_resource_are_listed_by_id_and_number(
    endpoints: EndpointServiceClient, finished: Any, parent: str
) -> None:
    for name in (parent, finished.name.partition("/operations/")[0]):
        listed = endpoints.list_operations(operations_pb2.ListOperationsRequest(name=name))
        assert [operation.name for operation in listed.operations] == [finished.name]
    unfinished = endpoints.list_operations(operations_pb2.ListOperationsRequest(name=parent, filter="done=false"))
    assert not unfinished.operations


def test_finished_operation_can_be_waited_for_cancelled_and_deleted(
    endpoints: EndpointServiceClient, finished: Any
) -> None:
    answer = endpoints.wait_operation(operations_pb2.WaitOperationRequest(name=finished.name))
    if isinstance(answer, bytes):
        # Over gRPC the client hands over what it received.
        answer = operations_pb2.Operation.FromString(answer)
    assert answer.done
    endpoints.cancel_operation(operations_pb2.CancelOperationRequest(name=finished.name))
    endpoints.delete_operation(operations_pb2.DeleteOperationRequest(name=finished.name))
    with pytest.raises(NotFound):
        endpoints.get_operation(operations_pb2.GetOperationRequest(name=finished.name))


def test_locations_are_listed_in_pages_and_got(endpoints: EndpointServiceClient, project: str) -> None:
    names: list[str] = []
    token = ""
    while not names or token:
        answer = endpoints.list_locations(
            locations_pb2.ListLocationsRequest(name=f"projects/{project}", page_size=20, page_token=token)
        )
        names += [location.location_id for location in answer.locations]
        token = answer.next_page_token
    assert "us-central1" in names
    assert len(names) == len(set(names)) > 20
    found = endpoints.get_location(locations_pb2.GetLocationRequest(name=f"projects/{project}/locations/us-central1"))
    assert found.labels == {"cloud.googleapis.com/region": "us-central1"}
    with pytest.raises(NotFound):
        endpoints.get_location(locations_pb2.GetLocationRequest(name=f"projects/{project}/locations/mars-north1"))


def test_policy_of_a_resource_is_kept_and_guarded_by_its_etag(endpoints: EndpointServiceClient, finished: Any) -> None:
    resource = finished.name.partition("/operations/")[0]
    before = endpoints.get_iam_policy(iam_policy_pb2.GetIamPolicyRequest(resource=resource))
    assert not before.bindings
    binding = policy_pb2.Binding(role="roles/aiplatform.user", members=["user:a@example.com"])
    policy = policy_pb2.Policy(bindings=[binding], etag=before.etag)
    request = iam_policy_pb2.SetIamPolicyRequest(resource=resource, policy=policy)
    stored = endpoints.set_iam_policy(request)
    again = endpoints.get_iam_policy(iam_policy_pb2.GetIamPolicyRequest(resource=resource))
    assert list(again.bindings) == [binding]
    assert again.etag == stored.etag
    with pytest.raises(Conflict):
        endpoints.set_iam_policy(request)


def test_test_iam_permissions_answers_as_the_owner(endpoints: EndpointServiceClient, finished: Any) -> None:
    resource = finished.name.partition("/operations/")[0]
    wanted = ["aiplatform.endpoints.predict"]
    answer = endpoints.test_iam_permissions(
        iam_policy_pb2.TestIamPermissionsRequest(resource=resource, permissions=wanted)
    )
    assert list(answer.permissions) == wanted
    with pytest.raises(BadRequest):
        endpoints.test_iam_permissions(
            iam_policy_pb2.TestIamPermissionsRequest(resource=resource, permissions=["predict"])
        )


@pytest.fixture
def operations(tmp_path: Path) -> Iterator[Operations]:
    database = Database(tmp_path / "emulator.db")
    operations = Operations(database, MovableClock())
    yield operations
    operations.close()
    database.close()


def test_waits_hold_a_bounded_share_of_threads(operations: Operations, tmp_path: Path) -> None:
    """Beyond the share a wait is answered at once, so that other calls still find a thread."""
    database = Database(tmp_path / "projects.db")
    service = OperationsService(operations, Projects(database, MovableClock()))
    context = Context("test", Caller("me"))
    release = threading.Event()

    def work(_: Any) -> Any:
        release.wait(30)
        return aiplatform_v1.Endpoint()

    started = operations.start(
        "projects/1/locations/l", aiplatform_v1.CreateEndpointOperationMetadata(), work, context, grace_seconds=0
    )
    request = longrunning.WaitOperationRequest(name=started.name)
    answers: list[Any] = []
    waits = [
        threading.Thread(target=lambda: answers.append(service.wait_operation(request, context)))
        for _ in range(MOST_WAITS + 3)
    ]
    for thread in waits:
        thread.start()
    wait_until(lambda: len(answers) >= 3, 10)
    assert [answer.done for answer in answers] == [False] * 3
    release.set()
    for thread in waits:
        thread.join(timeout=30)
    assert [answer.done for answer in answers[3:]] == [True] * MOST_WAITS
    database.close()
