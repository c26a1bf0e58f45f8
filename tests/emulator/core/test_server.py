"""How calls get in: transports, refusals, errors; through official clients and plain sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import MethodNotImplemented, Unauthenticated
from google.cloud.aiplatform_v1 import JobServiceClient
from google.cloud.aiplatform_v1beta1 import JobServiceClient as BetaJobServiceClient

from tests.conftest import Emulator


@pytest.fixture(params=["grpc", "rest"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("client_class", [JobServiceClient, BetaJobServiceClient])
def test_method_that_nobody_wrote_is_unimplemented_and_says_where_it_belongs(
    emulator: Emulator, transport: str, client_class: type[Any], parent: str
) -> None:
    client = emulator.client(client_class, transport)
    with pytest.raises(MethodNotImplemented, match=r"JobService\.ListNasJobs is not emulated yet; add it to"):
        list(client.list_nas_jobs(parent=parent))


def test_google_host_that_is_not_emulated_answers_unimplemented(emulator: Emulator) -> None:
    status, body = _over_tls(emulator, "dns.googleapis.com", "GET /dns/v1/projects/x HTTP/1.1")
    assert status == 501
    assert "dns.googleapis.com is not emulated yet" in json.loads(body)["error"]["message"]


def test_unknown_path_of_an_emulated_host_is_not_found(emulator: Emulator) -> None:
    status, _ = _over_tls(emulator, "us-central1-aiplatform.googleapis.com", "GET /v1/nonsense HTTP/1.1")
    assert status == 404


def test_call_without_a_token_is_unauthenticated(emulator: Emulator) -> None:
    path = "/v1/projects/some-project/locations/us-central1/customJobs"
    status, body = _over_tls(emulator, "us-central1-aiplatform.googleapis.com", f"GET {path} HTTP/1.1")
    assert status == 401
    assert json.loads(body)["error"]["status"] == "UNAUTHENTICATED"


def test_token_of_another_installation_is_refused(
    emulator: Emulator, new_emulator: Callable[..., Emulator], parent: str
) -> None:
    status, _ = _over_tls(
        emulator,
        "us-central1-aiplatform.googleapis.com",
        f"GET /v1/{parent}/customJobs HTTP/1.1",
        {"Authorization": f"Bearer {new_emulator().token}"},
    )
    assert status == 401


def test_key_of_another_installation_is_refused(
    emulator: Emulator, new_emulator: Callable[..., Emulator], parent: str
) -> None:
    from google.oauth2 import service_account

    credentials = service_account.Credentials.from_service_account_file(
        new_emulator().variables["GOOGLE_APPLICATION_CREDENTIALS"]
    )
    with pytest.raises(Unauthenticated):
        JobServiceClient(credentials=credentials).list_custom_jobs(parent=parent)


def test_foreign_host_header_is_refused(emulator: Emulator) -> None:
    assert _plain(emulator, "/emulator/health", {"Host": "rebinding.example.org"}) == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_post_of_a_web_page_is_refused(emulator: Emulator, headers: Mapping[str, str]) -> None:
    authorized = {**headers, "Authorization": f"Bearer {emulator.token}"}
    assert _plain(emulator, "/emulator/reset", authorized, "POST") == 403


def test_control_api_without_its_token_is_refused(emulator: Emulator) -> None:
    assert _plain(emulator, "/emulator/journal", {}) == 401


def test_health_is_for_everybody(emulator: Emulator) -> None:
    assert _plain(emulator, "/emulator/health", {}) == 200


def test_connect_to_a_host_outside_egress_is_refused_with_the_setting_to_change(emulator: Emulator) -> None:
    answer = _connect(emulator, "example.org:443")
    assert answer.startswith("HTTP/1.1 403")
    assert "emulator.egress in config" in answer


def test_connect_to_another_port_of_this_machine_is_refused(emulator: Emulator) -> None:
    assert _connect(emulator, f"127.0.0.1:{emulator.port + 1}").startswith("HTTP/1.1 403")


def test_garbage_closes_the_connection_and_nothing_else(emulator: Emulator) -> None:
    for garbage in (b"\x16\x03\x01\x00\x05aaaaa", b"CONNECT nowhere\r\n\r\n", b"\x00" * 64, b"PRI"):
        with socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
    assert _plain(emulator, "/emulator/health", {}) == 200


def test_https_to_the_loopback_address_has_a_certificate_of_its_own(emulator: Emulator) -> None:
    context = ssl.create_default_context(cafile=str(emulator.state / "ca" / "ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(b"GET /emulator/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert tls.recv(12) == b"HTTP/1.1 200"


def test_authority_cannot_vouch_for_a_name_that_is_not_googles(emulator: Emulator) -> None:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate((emulator.state / "ca" / "ca.pem").read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    names = constraints.value.permitted_subtrees or []
    assert x509.DNSName("googleapis.com") in names
    assert not [name for name in names if isinstance(name, x509.DNSName) and name.value.endswith("example.org")]


@pytest.mark.parametrize("name", ["ca/ca.key", "credentials/service-account.json", "credentials/token-secret", "token"])
def test_secrets_are_for_their_owner_alone(emulator: Emulator, name: str) -> None:
    assert (emulator.state / name).stat().st_mode & 0o777 == 0o600


def test_every_call_is_in_the_journal(emulator: Emulator, transport: str, parent: str) -> None:
    with pytest.raises(MethodNotImplemented):
        list(emulator.client(JobServiceClient, transport).list_nas_jobs(parent=parent))
    calls = emulator.control("GET", "journal?limit=20&method=ListNasJobs")["calls"]
    assert calls[0]["method"] == "google.cloud.aiplatform.v1.JobService/ListNasJobs"
    assert {"UNIMPLEMENTED"} == {call["status"] for call in calls}
    assert transport in {call["transport"] for call in calls}


def _plain(emulator: Emulator, path: str, headers: Mapping[str, str], verb: str = "GET") -> int:
    request = urllib.request.Request(emulator.address + path, headers=dict(headers), method=verb)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _connect(emulator: Emulator, target: str) -> str:
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=30) as connection:
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        return connection.makefile("rb").read(4096).decode()


def _over_tls(emulator: Emulator, host: str, line: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of one request to a Google host, by CONNECT."""
    import http.client

    context = ssl.create_default_context(cafile=str(Path(emulator.variables["SSL_CERT_FILE"])))
    connection = http.client.HTTPSConnection("127.0.0.1", emulator.port, context=context, timeout=30)
    connection.set_tunnel(host, 443)
    verb, path, _ = line.split()
    connection.request(verb, path, headers=dict(headers or {}))
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()
