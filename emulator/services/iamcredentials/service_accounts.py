"""IAM Credentials: short-lived credentials and signatures of a service account.

Every well-formed account exists. All sign with this installation's one key: its public half is what the
certificate addresses of the oauth2 service answer, so signatures can be checked.
Source: https://cloud.google.com/iam/docs/reference/credentials/rest
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core.exceptions import InvalidArgument

from emulator.core.service import Context, DiscoveryService, JsonRequest
from emulator.core.tokens import Tokens

#: Twelve hours, which the real service allows to accounts that an organization's policy lists.
_LONGEST_LIFETIME_SECONDS = 12 * 3600
_DEFAULT_LIFETIME_SECONDS = 3600
_LARGEST_PAYLOAD_BYTES = 1 << 20


class ServiceAccounts(DiscoveryService):
    api = "iamcredentials.v1"
    resource = "projects.serviceAccounts"

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def generate_access_token(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """An access token of the account; it expires by the machine's clock, as every token does."""
        account = _account(request)
        scopes = request.body.get("scope")
        if not isinstance(scopes, list) or not scopes:
            raise InvalidArgument("Request must include at least one scope.")
        seconds = _lifetime(request.body.get("lifetime"))
        expiry = datetime.now(UTC) + timedelta(seconds=seconds)
        return {
            "accessToken": self._tokens.mint_access_token(account, lifetime_seconds=seconds),
            "expireTime": f"{expiry:%Y-%m-%dT%H:%M:%SZ}",
        }

    def generate_id_token(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        account = _account(request)
        return {"token": self._tokens.mint_id_token(account, _text(request, "audience"))}

    def sign_blob(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """Signature of the decoded payload: RSASSA-PKCS1-v1_5 with SHA-256."""
        _account(request)
        try:
            payload = base64.b64decode(_text(request, "payload"), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidArgument(
                "Invalid value at 'payload' (TYPE_BYTES), Base64 decoding failed for \"payload\""
            ) from None
        key, signature = self._tokens.sign_bytes(payload)
        return {"keyId": key, "signedBlob": base64.b64encode(signature).decode()}

    def sign_jwt(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """A JWT with the claims of the payload, which is a JSON object in a string."""
        _account(request)
        try:
            claims = json.loads(_text(request, "payload"))
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise InvalidArgument("Payload must be a JSON object that holds a JWT Claims Set.")
        latest = datetime.now(UTC).timestamp() + _LONGEST_LIFETIME_SECONDS
        expiry = claims.get("exp", 0)
        if isinstance(expiry, bool) or not isinstance(expiry, int | float) or expiry > latest:
            raise InvalidArgument("The exp claim must be a number of seconds, at most 12 hours from now.")
        signed = self._tokens.sign_jwt(claims)
        return {"keyId": next(iter(self._tokens.certificates())), "signedJwt": signed}

    def get_allowed_locations(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """No regional boundary. google-auth asks after its first token and goes on without one."""
        _account(request)
        return {"locations": [], "encodedLocations": "0x0"}


def _account(request: JsonRequest) -> str:
    """The e-mail or unique id in `projects/-/serviceAccounts/ACCOUNT`. Raises InvalidArgument."""
    match = re.fullmatch(r"projects/[^/]+/serviceAccounts/([^/]+)", str(request.get("name")))
    if match is None or not re.fullmatch(r"[^@\s]+@[^@\s]+|\d{6,30}", match[1]):
        raise InvalidArgument(
            f"Invalid form of account ID {request.get('name')}. Should be [Gaia ID |Email |Unique ID]"
        )
    return match[1]


def _text(request: JsonRequest, name: str) -> str:
    value = request.body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"{name} is required.")
    if len(value) > _LARGEST_PAYLOAD_BYTES:
        raise InvalidArgument(f"{name} is larger than {_LARGEST_PAYLOAD_BYTES} bytes.")
    return value


def _lifetime(value: Any) -> float:
    """Seconds of `3600s`. Raises InvalidArgument."""
    if value is None:
        return _DEFAULT_LIFETIME_SECONDS
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)s", str(value), re.ASCII)
    seconds = float(match[1]) if match else 0.0
    if not 0 < seconds <= _LONGEST_LIFETIME_SECONDS:
        raise InvalidArgument(
            f"The requested lifetime {value!r} is invalid: up to {_LONGEST_LIFETIME_SECONDS}s is allowed."
        )
    return seconds
