"""OAuth through google.auth's own flows, and by hand where a client would never go wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import google.auth
import pytest
import requests
from google.auth import exceptions, jwt
from google.auth.transport.requests import Request
from google.oauth2 import credentials, id_token, service_account

from emulator.core.tokens import Tokens
from tests.conftest import Emulator, require_program

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
TOKEN_URI = "https://oauth2.googleapis.com/token"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@pytest.fixture
def key_file(emulator: Emulator) -> str:
    return emulator.variables["GOOGLE_APPLICATION_CREDENTIALS"]


@pytest.fixture
def refresh_token(emulator: Emulator) -> str:
    """One of this installation, minted as `emulator.env` would for a person."""
    return Tokens(emulator.state / "credentials", "unused").mint_refresh_token("someone@example.com")


def is_accepted(token: str, project: str) -> bool:
    answer = requests.get(
        f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    return answer.status_code == 200


def test_service_account_key_gets_a_token_that_is_accepted(key_file: str, project: str) -> None:
    account = service_account.Credentials.from_service_account_file(key_file, scopes=SCOPES)
    account.refresh(Request())
    assert is_accepted(account.token, project)
    assert not is_accepted(account.token[:-2], project)


@pytest.mark.parametrize(
    "uri", [TOKEN_URI, "https://www.googleapis.com/oauth2/v4/token", "https://accounts.google.com/o/oauth2/token"]
)
def test_every_address_of_the_token_endpoint_answers(key_file: str, project: str, uri: str) -> None:
    with open(key_file) as file:
        key = {**json.load(file), "token_uri": uri}
    account = service_account.Credentials.from_service_account_info(key, scopes=SCOPES)
    account.refresh(Request())
    assert is_accepted(account.token, project)


def test_service_account_key_gets_an_id_token_that_verifies(key_file: str) -> None:
    account = service_account.IDTokenCredentials.from_service_account_file(
        key_file, target_audience="https://a.example"
    )
    account.refresh(Request())
    claims = id_token.verify_oauth2_token(account.token, Request(), "https://a.example")
    assert claims["email"] == account.service_account_email


def test_refresh_token_gets_a_token_for_its_subject(refresh_token: str, project: str) -> None:
    user: Any = credentials.Credentials(
        None, refresh_token=refresh_token, token_uri=TOKEN_URI, client_id="id", client_secret="secret"
    )
    user.refresh(Request())
    assert is_accepted(user.token, project)
    info = requests.get(
        "https://openidconnect.googleapis.com/v1/userinfo",
        headers={"Authorization": f"Bearer {user.token}"},
        timeout=30,
    )
    assert info.json()["email"] == "someone@example.com"


def test_key_of_another_installation_gets_nothing(emulator: Emulator, new_emulator: Callable[..., Emulator]) -> None:
    other = new_emulator().variables["GOOGLE_APPLICATION_CREDENTIALS"]
    account = service_account.Credentials.from_service_account_file(other, scopes=SCOPES)
    with pytest.raises(exceptions.RefreshError, match="invalid_grant"):
        account.refresh(Request())


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": JWT_BEARER}, "invalid_request"),
        ({"grant_type": JWT_BEARER, "assertion": "a.b.c"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "client_id": "x", "refresh_token": "1//x"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "1//x"}, "invalid_request"),
    ],
)
def test_bad_grant_is_refused_in_oauths_form(emulator: Emulator, form: dict[str, str], error: str) -> None:
    answer = requests.post(TOKEN_URI, data=form, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["error"] == error


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"iat": 1, "exp": 2**33}, "invalid_scope"),
        ({"iat": 1, "exp": 2, "scope": "x"}, "invalid_grant"),
        ({"iat": "soon", "exp": "later", "scope": "x"}, "invalid_grant"),
        ({"iat": 1, "exp": 2**33, "scope": "x", "iss": ""}, "invalid_grant"),
    ],
)
def test_assertion_with_bad_claims_gets_nothing(key_file: str, claims: dict[str, Any], error: str) -> None:
    account: Any = service_account.Credentials.from_service_account_file(key_file)
    assertion = jwt.encode(account.signer, {"iss": account.service_account_email, **claims})
    answer = requests.post(TOKEN_URI, data={"grant_type": JWT_BEARER, "assertion": assertion}, timeout=30)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_token_info_tells_whose_a_token_is(emulator: Emulator) -> None:
    source: Any = google.auth.default(scopes=SCOPES)[0]
    source.refresh(Request())
    info = requests.get("https://oauth2.googleapis.com/tokeninfo", params={"access_token": source.token}, timeout=30)
    assert info.json()["email"] == source.service_account_email
    assert 3000 < int(info.json()["expires_in"]) <= 3600
    bad = requests.get("https://oauth2.googleapis.com/tokeninfo", params={"access_token": "ya29.x"}, timeout=30)
    assert (bad.status_code, bad.json()["error"]) == (400, "invalid_token")


def test_user_info_without_a_token_is_unauthenticated(emulator: Emulator) -> None:
    answer = requests.get("https://www.googleapis.com/oauth2/v3/userinfo", timeout=30)
    assert answer.status_code == 401


def test_json_web_keys_are_the_certificates(emulator: Emulator) -> None:
    keys = requests.get("https://www.googleapis.com/oauth2/v3/certs", timeout=30).json()["keys"]
    pems = requests.get("https://www.googleapis.com/oauth2/v1/certs", timeout=30).json()
    assert {key["kid"] for key in keys} == set(pems)
    assert all(key["kty"] == "RSA" and key["e"] == "AQAB" for key in keys)


def test_gcloud_prints_tokens(emulator: Emulator, project: str) -> None:
    gcloud = require_program("gcloud")
    access = emulator.run(gcloud, "auth", "print-access-token")
    assert access.returncode == 0, access.stderr
    assert is_accepted(access.stdout.strip(), project)
    identity = emulator.run(gcloud, "auth", "print-identity-token", "--audiences=https://a.example")
    assert identity.returncode == 0, identity.stderr
    assert jwt.decode(identity.stdout.strip(), verify=False)["aud"] == "https://a.example"
