"""IAM Credentials through google.auth's impersonation and signing, and the discovery client."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import google.auth
import pytest
from google.auth import impersonated_credentials, jwt
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud.storage import Client
from googleapiclient.errors import HttpError

from tests.conftest import Emulator, require_program
from tests.emulator.services.discovery import discovery_client

ACCOUNT = "robot@some-project.iam.gserviceaccount.com"
NAME = f"projects/-/serviceAccounts/{ACCOUNT}"
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


@pytest.fixture
def accounts(emulator: Emulator) -> Iterator[Any]:
    with discovery_client(emulator, "iamcredentials", "v1") as service:
        yield service.projects().serviceAccounts()


@pytest.fixture
def impersonated(emulator: Emulator) -> Any:
    source, _ = google.auth.default(scopes=SCOPES)
    return impersonated_credentials.Credentials(source, ACCOUNT, SCOPES, lifetime=600)


def test_impersonated_credentials_call_as_the_account(emulator: Emulator, impersonated: Any, project: str) -> None:
    with AuthorizedSession(impersonated) as session:
        answer = session.get(f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}")
        assert answer.json()["projectId"] == project
    calls = emulator.control("GET", "journal?method=cloudresourcemanager.projects.get&limit=50")
    assert ACCOUNT in json.dumps(calls)


def test_impersonated_credentials_sign_urls_that_the_certificates_verify(emulator: Emulator, impersonated: Any) -> None:
    signature = impersonated.sign_bytes(b"data")
    with Client(project="some-project", credentials=impersonated) as client:
        url = client.bucket("bucket").blob("name").generate_signed_url(60, version="v4", credentials=impersonated)
    assert "X-Goog-Signature=" in url
    with AuthorizedSession(google.auth.default(scopes=SCOPES)[0]) as session:
        keys = session.get(f"https://www.googleapis.com/robot/v1/metadata/x509/{ACCOUNT}").json()
    assert any(google.auth.crypt.verify_signature(b"data", signature, key) for key in keys.values())


def test_id_token_of_an_account_verifies(emulator: Emulator, impersonated: Any) -> None:
    from google.oauth2 import id_token

    credentials = impersonated_credentials.IDTokenCredentials(impersonated, "https://mine.example", include_email=True)
    credentials.refresh(Request())
    claims = id_token.verify_oauth2_token(credentials.token, Request(), "https://mine.example")
    assert claims["email"] == ACCOUNT


def test_sign_jwt_gives_the_claims_under_a_signature(accounts: Any) -> None:
    claims = {"iss": ACCOUNT, "aud": "x", "iat": int(time.time()), "exp": int(time.time()) + 60}
    signed = accounts.signJwt(name=NAME, body={"payload": json.dumps(claims)}).execute()
    assert jwt.decode(signed["signedJwt"], verify=False) == claims
    assert jwt.decode_header(signed["signedJwt"])["kid"] == signed["keyId"]


def test_access_token_lives_as_long_as_was_asked_for(accounts: Any) -> None:
    answer = accounts.generateAccessToken(name=NAME, body={"scope": SCOPES, "lifetime": "600s"}).execute()
    assert answer["accessToken"].startswith("ya29.")
    assert answer["expireTime"].endswith("Z")


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("generateAccessToken", {}),
        ("generateAccessToken", {"scope": SCOPES, "lifetime": "0s"}),
        ("generateAccessToken", {"scope": SCOPES, "lifetime": "forever"}),
        ("generateIdToken", {}),
        ("signBlob", {"payload": "not base64!"}),
        ("signJwt", {"payload": "[]"}),
        ("signJwt", {"payload": '{"exp": 99999999999}'}),
        ("signJwt", {"payload": '{"exp": "soon"}'}),
    ],
)
def test_bad_request_is_an_invalid_argument(accounts: Any, method: str, body: dict[str, Any]) -> None:
    with pytest.raises(HttpError) as caught:
        getattr(accounts, method)(name=NAME, body=body).execute()
    assert caught.value.status_code == 400


def test_sign_blob_signs_the_decoded_payload(accounts: Any) -> None:
    payload = base64.b64encode(b"hello").decode()
    answer = accounts.signBlob(name=NAME, body={"payload": payload}).execute()
    assert len(base64.b64decode(answer["signedBlob"])) == 256


def test_allowed_locations_are_unbounded(accounts: Any) -> None:
    assert accounts.getAllowedLocations(name=NAME).execute() == {"locations": [], "encodedLocations": "0x0"}


def test_gcloud_impersonates(emulator: Emulator, project: str) -> None:
    gcloud = require_program("gcloud")
    result = emulator.run(gcloud, "projects", "describe", project, f"--impersonate-service-account={ACCOUNT}")
    assert result.returncode == 0, result.stderr
    assert f"projectId: {project}" in result.stdout
