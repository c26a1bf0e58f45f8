"""The metadata server through google.auth, and as jobs in a sandbox are told who they are."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.auth import jwt

from emulator.core.clock import MovableClock
from emulator.core.interfaces import SandboxCaller
from emulator.core.plain_http import HttpRequest, HttpResponse
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.core.tokens import Tokens
from emulator.services.metadata_server import MetadataServer
from tests.conftest import Emulator, require_program

ROOT = "/computeMetadata/v1"
JOB = SandboxCaller("customJobs/12/workerpool0-0", "job-project", "robot@job-project.iam.gserviceaccount.com")


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "credentials", "own-project")


@pytest.fixture
def server(tokens: Tokens, tmp_path: Path) -> Iterator[MetadataServer]:
    database = Database(tmp_path / "emulator.db")
    projects = Projects(database, MovableClock())
    yield MetadataServer(tokens, projects, "own-project", "europe-west4")
    database.close()


def get(
    server: MetadataServer,
    path: str,
    *,
    sandbox: SandboxCaller | None = JOB,
    host: str = "metadata.google.internal",
    flavor: str | None = "Google",
    verb: str = "get",
) -> HttpResponse:
    path, _, query = path.partition("?")
    pairs = [tuple(pair.split("=", 1)) for pair in query.split("&") if pair]
    headers = {} if flavor is None else {"metadata-flavor": flavor}
    assert server.matches(host, path, headers)
    return server.handle(HttpRequest(verb, host, path, pairs, headers, sandbox=sandbox))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/project/project-id", "job-project"),
        ("/instance/service-accounts/default/email", JOB.service_account),
        (f"/instance/service-accounts/{JOB.service_account}/aliases", "default\n"),
        ("/instance/service-accounts/", f"default/\n{JOB.service_account}/\n"),
        ("/", "instance/\nproject/\n"),
    ],
)
def test_job_is_told_its_own_project_and_account(server: MetadataServer, path: str, text: str) -> None:
    answer = get(server, ROOT + path)
    assert (answer.status, answer.body.decode()) == (200, text)
    assert answer.headers["Metadata-Flavor"] == "Google"


def test_place_is_named_by_the_projects_number(server: MetadataServer) -> None:
    number = get(server, f"{ROOT}/project/numeric-project-id").body.decode()
    assert number.isdecimal()
    assert get(server, f"{ROOT}/instance/zone").body.decode() == f"projects/{number}/zones/europe-west4-a"
    assert get(server, f"{ROOT}/instance/region").body.decode() == f"projects/{number}/regions/europe-west4"


def test_token_is_the_jobs_and_carries_its_name(server: MetadataServer, tokens: Tokens) -> None:
    answer = json.loads(get(server, f"{ROOT}/instance/service-accounts/default/token").body)
    caller = tokens.verify(answer["access_token"])
    assert (caller.subject, caller.sandbox) == (JOB.service_account, JOB.name)
    assert answer["token_type"] == "Bearer"


def test_identity_needs_an_audience_and_in_full_names_the_machine(server: MetadataServer) -> None:
    path = f"{ROOT}/instance/service-accounts/default/identity"
    assert get(server, path).status == 400
    claims = jwt.decode(get(server, f"{path}?audience=https://a&format=full").body.decode(), verify=False)
    assert (claims["aud"], claims["email"]) == ("https://a", JOB.service_account)
    assert claims["google"]["compute_engine"]["project_id"] == "job-project"


def test_recursive_is_json_in_camel_case(server: MetadataServer) -> None:
    account = json.loads(get(server, f"{ROOT}/instance/service-accounts/default/?recursive=true").body)
    assert account["email"] == JOB.service_account
    assert account["aliases"] == ["default"]
    everything = json.loads(get(server, f"{ROOT}/?recursive=true").body)
    assert everything["project"]["projectId"] == "job-project"
    assert isinstance(everything["project"]["numericProjectId"], int)
    assert set(everything["instance"]["serviceAccounts"]) == {"default", JOB.service_account}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/universe/universe-domain", 404),
        ("/instance/attributes/unknown", 404),
        ("/instance/service-accounts/somebody@else.example/token", 404),
        ("/project/project-id/", 404),
        ("/instance", 301),
    ],
)
def test_what_is_not_there(server: MetadataServer, path: str, status: int) -> None:
    assert get(server, ROOT + path).status == status


@pytest.mark.parametrize("flavor", [None, "", "google-ish"])
def test_request_without_the_header_is_forbidden(server: MetadataServer, flavor: str | None) -> None:
    assert get(server, f"{ROOT}/instance/service-accounts/default/token", flavor=flavor).status == 403


def test_post_is_not_allowed(server: MetadataServer) -> None:
    assert get(server, f"{ROOT}/instance/service-accounts/default/token", verb="post").status == 405


def test_shell_that_asks_by_name_is_on_no_machine_of_googles(server: MetadataServer) -> None:
    answer = get(server, f"{ROOT}/instance/", sandbox=None)
    assert answer.status == 404
    assert "Metadata-Flavor" not in answer.headers


def test_shell_that_is_sent_to_loopback_is_told_the_emulators_project(server: MetadataServer, tokens: Tokens) -> None:
    def ask(path: str) -> str:
        return get(server, ROOT + path, sandbox=None, host="127.0.0.1").body.decode()

    assert ask("/project/project-id") == "own-project"
    assert ask("/instance/service-accounts/default/email") == tokens.email


def test_root_on_loopback_is_for_those_who_look_for_the_server(server: MetadataServer) -> None:
    assert server.matches("127.0.0.1", "/", {"metadata-flavor": "Google"})
    assert not server.matches("127.0.0.1", "/", {})
    assert not server.matches("storage.googleapis.com", f"{ROOT}/project/project-id", {})


_SCRIPT = """
import google.auth, google.auth.transport.requests, json
from google.auth import compute_engine
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
assert isinstance(credentials, compute_engine.Credentials), credentials
session = google.auth.transport.requests.AuthorizedSession(credentials)
found = session.get(f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}").json()
identity = compute_engine.IDTokenCredentials(
    google.auth.transport.requests.Request(), "https://a.example", use_metadata_identity_endpoint=True)
identity.refresh(google.auth.transport.requests.Request())
print(json.dumps([project, found["projectId"], credentials.service_account_email, bool(identity.token)]))
"""


def test_default_credentials_come_from_it_where_there_is_no_key(emulator: Emulator) -> None:
    address = f"127.0.0.1:{emulator.port}"
    result = emulator.run(
        sys.executable, "-c", _SCRIPT, GCE_METADATA_HOST=address, GCE_METADATA_IP=address, NO_GCE_CHECK="false",
        GOOGLE_APPLICATION_CREDENTIALS="", GOOGLE_CLOUD_PROJECT="",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    project, found, email, has_identity = json.loads(result.stdout)
    assert project == found
    assert email.endswith(".iam.gserviceaccount.com")
    assert has_identity


def test_gcloud_takes_its_account_from_it(emulator: Emulator, tmp_path: Path) -> None:
    gcloud = require_program("gcloud")
    without_key = ("env", "-u", "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", "-u", "CLOUDSDK_CORE_CHECK_GCE_METADATA")
    result = emulator.run(
        *without_key, gcloud, "auth", "print-access-token",
        GCE_METADATA_ROOT=f"127.0.0.1:{emulator.port}", CLOUDSDK_CONFIG=str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("ya29.")


def test_token_is_not_given_to_a_web_page(emulator: Emulator) -> None:
    """A page can make a browser post or get here, but not with this header and another origin."""
    url = f"{emulator.address}{ROOT}/instance/service-accounts/default/token"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for headers in ({}, {"Metadata-Flavor": "Google", "Origin": "https://evil.example"}):
        with pytest.raises(urllib.error.HTTPError) as caught:
            opener.open(urllib.request.Request(url, headers=headers), timeout=30)
        assert caught.value.code == 403
        caught.value.close()
