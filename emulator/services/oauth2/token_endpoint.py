"""The OAuth token endpoint: signed assertions and refresh tokens for access and id tokens.

An assertion has to be signed with this installation's key, because what comes in over loopback is not trusted:
any web page can post here.
Source: https://developers.google.com/identity/protocols/oauth2/service-account
"""

from __future__ import annotations

from collections.abc import Mapping

from google.api_core.exceptions import Unauthenticated

from emulator.core.plain_http import HttpRequest, HttpResponse, PlainHttp
from emulator.core.tokens import Tokens

_ADDRESSES = frozenset(
    {
        ("oauth2.googleapis.com", "/token"),
        ("www.googleapis.com", "/oauth2/v3/token"),
        ("www.googleapis.com", "/oauth2/v4/token"),
        ("accounts.google.com", "/o/oauth2/token"),
    }
)
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: A second less than a token lives, as Google says it.
_EXPIRES_IN = 3599
_NOT_CACHED = {"Cache-Control": "no-cache, no-store, max-age=0, must-revalidate", "Pragma": "no-cache"}


class TokenEndpoint(PlainHttp):
    name = "oauth2.token"

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def matches(self, host: str, path: str, headers: Mapping[str, str]) -> bool:
        return (host, path) in _ADDRESSES

    def handle(self, request: HttpRequest) -> HttpResponse:
        """The tokens that a grant is worth, or 400 in OAuth's own form."""
        if request.verb != "post":
            return _refusal("invalid_request", "Only POST is supported.", 405)
        form = request.form()
        match form.get("grant_type", ""):
            case grant if grant == _JWT_BEARER:
                return self._by_assertion(form.get("assertion", ""))
            case "refresh_token":
                return self._by_refresh_token(form)
            case "":
                return _refusal("invalid_request", "Required parameter is missing: grant_type")
            case other:
                return _refusal("unsupported_grant_type", f"Invalid grant_type: {other[:100]}")

    def _by_assertion(self, assertion: str) -> HttpResponse:
        if not assertion:
            return _refusal("invalid_request", "Required parameter is missing: assertion")
        try:
            claims = self._tokens.verify_assertion(assertion)
        except Unauthenticated:
            return _refusal("invalid_grant", "Invalid JWT Signature.")
        issuer = str(claims.get("iss", ""))
        subject = str(claims.get("sub") or issuer)
        if not issuer:
            return _refusal("invalid_grant", "Invalid JWT: iss is missing.")
        audience = claims.get("target_audience")
        if audience:
            return _answer({"id_token": self._tokens.mint_id_token(issuer, str(audience))})
        scope = claims.get("scope")
        if not scope:
            return _refusal("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return _answer(
            {
                "access_token": self._tokens.mint_access_token(subject),
                "scope": str(scope),
                "expires_in": _EXPIRES_IN,
                "token_type": "Bearer",
            }
        )

    def _by_refresh_token(self, form: Mapping[str, str]) -> HttpResponse:
        if not form.get("client_id"):
            return _refusal("invalid_request", "Could not determine client ID from request.")
        try:
            subject = self._tokens.verify_refresh_token(form.get("refresh_token", ""))
        except Unauthenticated:
            return _refusal("invalid_grant", "Bad Request")
        return _answer(
            {
                "access_token": self._tokens.mint_access_token(subject),
                "scope": form.get("scope") or "https://www.googleapis.com/auth/cloud-platform",
                "expires_in": _EXPIRES_IN,
                "token_type": "Bearer",
                "id_token": self._tokens.mint_id_token(subject, form["client_id"]),
            }
        )


def _answer(document: Mapping[str, object]) -> HttpResponse:
    return HttpResponse.json(document, headers=_NOT_CACHED)


def _refusal(error: str, description: str, status: int = 400) -> HttpResponse:
    return HttpResponse.json({"error": error, "error_description": description}, status, headers=_NOT_CACHED)
