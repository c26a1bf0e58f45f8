"""What can be asked about tokens: whose they are, and which keys sign them.

Source: https://developers.google.com/identity/openid-connect/openid-connect and
https://cloud.google.com/docs/authentication/token-types
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

from google.api_core.exceptions import Unauthenticated

from emulator.core.plain_http import HttpRequest, HttpResponse, PlainHttp
from emulator.core.tokens import Tokens

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
#: Host -> path -> name of the method that answers there.
_ADDRESSES: Mapping[str, Mapping[str, str]] = {
    "oauth2.googleapis.com": {"/tokeninfo": "token_info", "/revoke": "revoke"},
    "accounts.google.com": {
        "/o/oauth2/revoke": "revoke",
        "/.well-known/openid-configuration": "openid_configuration",
    },
    "openidconnect.googleapis.com": {"/v1/userinfo": "user_info"},
    "www.googleapis.com": {
        "/oauth2/v1/tokeninfo": "token_info",
        "/oauth2/v2/tokeninfo": "token_info",
        "/oauth2/v3/tokeninfo": "token_info",
        "/oauth2/v1/userinfo": "user_info",
        "/oauth2/v2/userinfo": "user_info",
        "/oauth2/v3/userinfo": "user_info",
        "/userinfo/v2/me": "user_info",
        "/oauth2/v1/certs": "certificates",
        "/oauth2/v2/certs": "json_web_keys",
        "/oauth2/v3/certs": "json_web_keys",
    },
}
#: The keys of one service account, which here are those of all.
_ACCOUNT_KEYS = re.compile(r"/(?:robot|service_accounts)/v1/metadata/(x509|jwk)/[^/]+")


class TokenFacts(PlainHttp):
    name = "oauth2"

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def matches(self, host: str, path: str, headers: Mapping[str, str]) -> bool:
        return path in _ADDRESSES.get(host, {}) or (
            host == "www.googleapis.com" and _ACCOUNT_KEYS.fullmatch(path) is not None
        )

    def handle(self, request: HttpRequest) -> HttpResponse:
        keys = _ACCOUNT_KEYS.fullmatch(request.path)
        if keys:
            return self.certificates(request) if keys[1] == "x509" else self.json_web_keys(request)
        method: Callable[[HttpRequest], HttpResponse] = getattr(self, _ADDRESSES[request.host][request.path])
        return method(request)

    def token_info(self, request: HttpRequest) -> HttpResponse:
        """Who an access or id token is for, and for how long yet."""
        form = request.form()
        id_token = form.get("id_token")
        try:
            if id_token:
                # Every value is text here, numbers and truths as well.
                claims = self._tokens.verify_assertion(id_token)
                return HttpResponse.json({name: _as_text(value) for name, value in claims.items()})
            token = form.get("access_token") or request.headers.get("authorization", "").partition(" ")[2]
            caller = self._tokens.verify(token)
        except Unauthenticated:
            return _invalid_token()
        left = self._tokens.seconds_left(token)
        return HttpResponse.json(
            {
                "azp": _unique_id(caller.subject),
                "aud": _unique_id(caller.subject),
                "scope": _SCOPE,
                "expires_in": str(left),
                "access_type": "online",
                "email": caller.subject,
                "email_verified": "true",
            }
        )

    def revoke(self, request: HttpRequest) -> HttpResponse:
        """200 for a token of this installation. It is not remembered: the token works until it expires."""
        token = request.form().get("token", "")
        for check in (self._tokens.verify, self._tokens.verify_refresh_token):
            try:
                check(token)
            except Unauthenticated:
                continue
            return HttpResponse.json({})
        return _invalid_token()

    def user_info(self, request: HttpRequest) -> HttpResponse:
        if request.caller is None:
            return HttpResponse.json(
                {
                    "error": {
                        "code": 401,
                        "message": "Request is missing required authentication credential.",
                        "status": "UNAUTHENTICATED",
                    }
                },
                401,
            )
        email = request.caller.subject
        identifier = _unique_id(email)
        own = {"sub": identifier} if request.path.endswith(("/v1/userinfo", "/v3/userinfo")) else {"id": identifier}
        verified = "email_verified" if "sub" in own else "verified_email"
        return HttpResponse.json({**own, "email": email, verified: True})

    def certificates(self, request: HttpRequest) -> HttpResponse:
        """Key id -> public key in PEM."""
        return HttpResponse.json(self._tokens.certificates(), headers={"Cache-Control": "public, max-age=3600"})

    def json_web_keys(self, request: HttpRequest) -> HttpResponse:
        keys = [_json_web_key(name, pem) for name, pem in self._tokens.certificates().items()]
        return HttpResponse.json({"keys": keys}, headers={"Cache-Control": "public, max-age=3600"})

    def openid_configuration(self, request: HttpRequest) -> HttpResponse:
        """Where what is, for clients that look it up first."""
        return HttpResponse.json(
            {
                "issuer": "https://accounts.google.com",
                "token_endpoint": "https://oauth2.googleapis.com/token",
                "userinfo_endpoint": "https://openidconnect.googleapis.com/v1/userinfo",
                "revocation_endpoint": "https://oauth2.googleapis.com/revoke",
                "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
                "id_token_signing_alg_values_supported": ["RS256"],
                "subject_types_supported": ["public"],
                "response_types_supported": ["token", "id_token"],
            }
        )


def _invalid_token() -> HttpResponse:
    return HttpResponse.json({"error": "invalid_token", "error_description": "Invalid Value"}, 400)


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unique_id(email: str) -> str:
    """The 21 digits that stand for an account, always the same ones."""
    import hashlib

    return str(10**20 + int.from_bytes(hashlib.sha256(email.encode()).digest()[:8]))


def _json_web_key(name: str, pem: str) -> dict[str, str]:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(pem.encode())
    if not isinstance(key, RSAPublicKey):
        raise TypeError(f"key {name} is no RSA key")
    numbers = key.public_numbers()
    return {
        "kid": name,
        "kty": "RSA",
        "alg": "RS256",
        "use": "sig",
        "n": _base64_number(numbers.n),
        "e": _base64_number(numbers.e),
    }


def _base64_number(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
