"""Signed requests: addresses of version 4 and 2, signed headers, and signed policies of HTML forms.

A signature is checked for real, against this installation's key or the secret of an HMAC key, and times out on the
machine's clock. What a signature of version 4 covers is written as the signer wrote it: verb, path, query, headers.
Source: https://cloud.google.com/storage/docs/authentication/signatures, …/access-control/signed-urls-v2;
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import quote, unquote_to_bytes, urlencode

from google.api_core.exceptions import BadRequest, Forbidden

from emulator.core.service import Caller
from emulator.core.streamed_http import StreamedRequest
from emulator.services.storage.xml_documents import xml_error

_LONGEST_SECONDS = 7 * 24 * 3600
_SKEW_SECONDS = 15 * 60
_UNSIGNED = "UNSIGNED-PAYLOAD"
#: Headers that clients add behind the signer's back and that grant nothing.
_HARMLESS = {"x-goog-api-client", "x-goog-gcs-idempotency-token", "x-goog-user-project", "x-amz-user-agent"}
#: What an address of version 2 may carry beyond what was signed: it narrows or renames the answer.
_UNSIGNED_V2 = {"generation", "response-content-type", "response-content-disposition", "userproject"}
#: Parameters that make another call of a request, and so are part of what a header of version 2 signs.
_SIGNED_V2 = {
    "acl", "compose", "cors", "delete", "generation", "lifecycle", "location", "partNumber", "policy",
    "response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language",
    "response-content-type", "response-expires", "storageClass", "upload_id", "uploadId", "uploads", "versionId",
    "versioning", "versions", "website",
}  # fmt: skip
_HEADER = re.compile(
    r"(GOOG4|AWS4)-HMAC-SHA256\s+Credential=([^,\s]+)\s*,\s*SignedHeaders=([^,\s]+)\s*,\s*Signature=([0-9a-fA-F]+)"
)


class Verifier(Protocol):
    """Whose signatures count."""

    def verify_bytes(self, data: bytes, signature: bytes) -> bool:
        """Whether a service account's key made an RSASSA-PKCS1-v1_5 SHA-256 signature."""
        ...


class HmacSecrets(Protocol):
    def active(self, access_id: str) -> tuple[str, str] | None:
        """Secret and service account of an active HMAC key."""
        ...


@dataclass(frozen=True)
class _Family:
    """Google's spelling of version 4, or Amazon's."""

    prefix: str
    """of query parameters and headers"""
    name: str
    """before the algorithm and the secret"""
    terminator: str
    """last part of the scope"""


_GOOG, _AMZ = _Family("x-goog", "GOOG4", "goog4_request"), _Family("x-amz", "AWS4", "aws4_request")


@dataclass(frozen=True)
class _Claim:
    """What a signature of version 4 says of itself."""

    family: _Family
    algorithm: str
    access_id: str
    scope: str
    moment: str
    signature: str

    @classmethod
    def of(cls, family: _Family, algorithm: str, credential: str, moment: str, signature: str) -> _Claim:
        """credential: `access-id/date/location/service/terminator`. Raises BadRequest."""
        access_id, _, scope = credential.partition("/")
        parts = scope.split("/")
        if not access_id or len(parts) != 4 or parts[3] != family.terminator or parts[2] not in ("storage", "s3"):
            raise _bad(f"The credential scope {scope!r} is not of the form DATE/LOCATION/storage/{family.terminator}.")
        if parts[0] != moment[:8]:
            raise _bad("The date of the credential differs from that of the request.")
        return cls(family, algorithm, access_id, scope, moment, signature)


class Signatures:
    """Checks what is signed."""

    def __init__(self, verifier: Verifier, secrets: HmacSecrets) -> None:
        self._verifier = verifier
        self._secrets = secrets

    def check(self, request: StreamedRequest) -> Caller | None:
        """Who signed a request; None for one without a signature.

        Raises Forbidden (SignatureDoesNotMatch and others) and BadRequest (ExpiredToken and others).
        """
        header = request.headers.get("authorization", "")
        if header.startswith(("GOOG4-HMAC-SHA256", "AWS4-HMAC-SHA256")):
            return self._check_header(request, header)
        if header.startswith(("AWS ", "GOOG1 ")):
            return self._check_header_v2(request, header)
        names = {key.lower() for key, _ in request.query}
        for family in (_GOOG, _AMZ):
            if f"{family.prefix}-signature" in names:
                return self._check_query(request, family)
        if {"googleaccessid", "signature", "expires"} <= names:
            return self._check_v2(request)
        return None

    def check_policy(self, fields: Mapping[str, str]) -> Caller:
        """Who signed the policy among the fields of a form. Raises as `check` does."""
        policy = fields["policy"].encode()
        for family in (_GOOG, _AMZ):
            given = {
                name: fields.get(f"{family.prefix}-{name}", "")
                for name in ("algorithm", "credential", "date", "signature")
            }
            if given["signature"]:
                # Unlike an address, a policy is signed as it is.
                return self._signer_of(_Claim.of(family, *given.values()), [policy])
        try:
            signature = base64.b64decode(fields.get("signature", ""), validate=True)
        except binascii.Error:
            signature = b""
        if not signature or not self._verifier.verify_bytes(policy, signature):
            raise _mismatch(policy)
        return Caller(fields.get("googleaccessid", ""))

    def _check_query(self, request: StreamedRequest, family: _Family) -> Caller:
        prefix = family.prefix
        given = {key.lower(): value for key, value in request.query}
        moment, lifetime = given.get(f"{prefix}-date", ""), given.get(f"{prefix}-expires", "")
        claim = _Claim.of(
            family, given.get(f"{prefix}-algorithm", ""), given.get(f"{prefix}-credential", ""), moment,
            given[f"{prefix}-signature"],
        )  # fmt: skip
        if not re.fullmatch(r"[0-9]{1,6}", lifetime) or not 1 <= int(lifetime) <= _LONGEST_SECONDS:
            raise _bad(f"{prefix.title()}-Expires must be a number of seconds from 1 to {_LONGEST_SECONDS}.")
        began = _parse_moment(moment)
        if began > time.time() + _SKEW_SECONDS:
            raise xml_error(Forbidden, "AccessDenied", "The request is not valid yet.")
        if time.time() > began + int(lifetime):
            raise _expired(began + int(lifetime))
        return self._signed(request, claim, given.get(f"{prefix}-signedheaders", ""))

    def _check_header(self, request: StreamedRequest, header: str) -> Caller:
        match = _HEADER.fullmatch(header)
        if match is None:
            raise _bad("The Authorization header is malformed.")
        family = _GOOG if match[1] == _GOOG.name else _AMZ
        moment = request.headers.get(f"{family.prefix}-date", "")
        claim = _Claim.of(family, f"{match[1]}-HMAC-SHA256", match[2], moment, match[4])
        if abs(_parse_moment(moment) - time.time()) > _SKEW_SECONDS:
            raise xml_error(Forbidden, "RequestTimeTooSkewed", "The request's time differs too much from the server's.")
        return self._signed(request, claim, match[3])

    def _signed(self, request: StreamedRequest, claim: _Claim, signed_headers: str) -> Caller:
        names = _signed_names(signed_headers, request.headers)
        payload = request.headers.get(f"{claim.family.prefix}-content-sha256", _UNSIGNED)
        texts = (
            f"{claim.algorithm}\n{claim.moment}\n{claim.scope}\n{hashlib.sha256(canonical).hexdigest()}".encode()
            for canonical in _canonical_requests(request, names, payload)
        )
        signed_sha256(request.headers)
        return self._signer_of(claim, texts)

    def _signer_of(self, claim: _Claim, texts: Iterable[bytes]) -> Caller:
        """Who signed one of some texts. Raises Forbidden: SignatureDoesNotMatch, with the first of them."""
        try:
            given = bytes.fromhex(claim.signature)
        except ValueError:
            given = b""
        is_signed, signer = self._check_of(claim, given)
        first = b""
        for text in texts:
            if is_signed(text):
                return Caller(signer)
            first = first or text
        raise _mismatch(first)

    def _check_of(self, claim: _Claim, signature: bytes) -> tuple[Callable[[bytes], bool], str]:
        """What tells whether a text has a signature, and whose it is."""
        if claim.algorithm == "GOOG4-RSA-SHA256" and claim.family is _GOOG:
            # One key signs for every service account of the installation, as IAM's signBlob does.
            known = claim.access_id.endswith(".gserviceaccount.com")
            return lambda text: known and self._verifier.verify_bytes(text, signature), claim.access_id
        if claim.algorithm != f"{claim.family.name}-HMAC-SHA256":
            raise _bad(f"The algorithm {claim.algorithm!r} is not known.")
        found = self._secrets.active(claim.access_id)
        if found is None:
            raise xml_error(Forbidden, "InvalidAccessKeyId", "The specified access key does not exist or is inactive.")
        secret, account = found
        key = f"{claim.family.name}{secret}".encode()
        for part in claim.scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return lambda text: hmac.compare_digest(hmac.digest(key, text, "sha256"), signature), account

    def _check_v2(self, request: StreamedRequest) -> Caller:
        given = {key.lower(): value for key, value in request.query}
        if not given["expires"].isdecimal():
            raise _bad("Expires must be a number of seconds since the epoch.")
        if int(given["expires"]) < time.time():
            raise _expired(int(given["expires"]))
        try:
            signature = base64.b64decode(given["signature"], validate=True)
        except binascii.Error:
            raise _bad("The signature is not base64.") from None
        head = [request.verb.upper(), *(request.headers.get(name, "") for name in ("content-md5", "content-type")),
                given["expires"]]  # fmt: skip
        extensions = sorted(
            f"{name}:{' '.join(value.split())}"
            for name, value in request.headers.items()
            if name.startswith("x-goog-") and name not in _HARMLESS
        )
        path = _resource_of(request)
        others = sorted(
            (key.lower(), value.strip())
            for key, value in request.query
            if key.lower() not in ("googleaccessid", "expires", "signature")
        )
        signed = [(key, value) for key, value in others if key not in _UNSIGNED_V2]
        resources = [f"{path}?{urlencode(pairs)}" for pairs in (others, signed) if pairs or not signed]
        if not signed:
            resources.insert(0, path)
        first = b""
        for resource in dict.fromkeys(resources):
            text = "\n".join([*head, *extensions, resource]).encode("latin-1")
            first = first or text
            if self._verifier.verify_bytes(text, signature):
                return Caller(given["googleaccessid"])
        raise _mismatch(first)

    def _check_header_v2(self, request: StreamedRequest, header: str) -> Caller:
        """`Authorization: AWS id:signature`, or GOOG1, of an HMAC key: SHA-1 over the request, without its body."""
        family, _, credential = header.partition(" ")
        access_id, _, text = credential.rpartition(":")
        prefix = "x-amz-" if family == "AWS" else "x-goog-"
        own = request.headers.get(f"{prefix}date", "")
        try:
            moment = parsedate_to_datetime(own or request.headers.get("date", ""))
        except ValueError:
            raise xml_error(Forbidden, "AccessDenied", "A signed request has a Date.") from None
        if abs((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()) > _SKEW_SECONDS:
            raise xml_error(Forbidden, "RequestTimeTooSkewed", "The request's time differs too much from the server's.")
        for name in request.headers:
            # A header of the other family would go unsigned, and could make another request of it.
            if name.startswith(("x-goog-", "x-amz-")) and not name.startswith(prefix) and name not in _HARMLESS:
                raise _bad(f"Your request has a malformed header. The header {name} is not signed.")
        found = self._secrets.active(access_id)
        if found is None:
            raise xml_error(Forbidden, "InvalidAccessKeyId", "The specified access key does not exist or is inactive.")
        secret, account = found
        extensions = sorted(
            f"{name}:{' '.join(value.split())}" for name, value in request.headers.items() if name.startswith(prefix)
        )
        named = sorted((key, value) for key, value in request.query if key in _SIGNED_V2)
        suffix = "?" + "&".join(f"{key}={value}" if value else key for key, value in named) if named else ""
        head = [
            request.verb.upper(), *(request.headers.get(name, "") for name in ("content-md5", "content-type")),
            "" if own else request.headers.get("date", ""), *extensions,
        ]  # fmt: skip
        path = _resource_of(request)
        # boto3 signs a bucket with a slash behind it that it does not send.
        paths = (path, f"{path}/") if path.count("/") == 1 else (path,)
        texts = ["\n".join([*head, one + suffix]).encode("latin-1") for one in paths]
        signatures = (base64.b64encode(hmac.digest(secret.encode(), one, "sha1")) for one in texts)
        if not any(hmac.compare_digest(one, text.encode()) for one in signatures):
            raise _mismatch(texts[0])
        return Caller(account)


def checked_body(body: Iterator[bytes], sha256: str) -> Iterator[bytes]:
    """The same pieces. Raises BadRequest behind the last when they are not what was signed."""
    digest = hashlib.sha256()
    for piece in body:
        digest.update(piece)
        yield piece
    if sha256 and not hmac.compare_digest(digest.hexdigest(), sha256):
        raise xml_error(BadRequest, "XAmzContentSHA256Mismatch", "The body does not have the SHA-256 that was signed.")


def _canonical_requests(request: StreamedRequest, names: list[str], payload: str) -> Iterator[bytes]:
    """What may have been signed. Signers disagree on encoding the path and on sorting the query."""
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in names)
    encoded = quote(unquote_to_bytes(request.path), safe="/~")
    pairs = [
        (quote(key, safe="~"), quote(value, safe="~"))
        for key, value in request.query
        if key.lower() not in ("x-goog-signature", "x-amz-signature")
    ]
    by_pair = "&".join(f"{key}={value}" for key, value in sorted(pairs))
    by_text = "&".join(sorted(f"{key}={value}" for key, value in pairs))
    for path in dict.fromkeys((request.path, encoded)):
        for query in dict.fromkeys((by_pair, by_text)):
            text = "\n".join((request.verb.upper(), path, query, headers, ";".join(names), payload))
            yield text.encode("latin-1")


def _signed_names(text: str, headers: Mapping[str, str]) -> list[str]:
    """Names of the signed headers. Raises BadRequest when one is missing, or when one that matters is not signed."""
    names = text.lower().split(";")
    missing = next((name for name in names if name not in headers), None)
    if missing is not None:
        raise _bad("Your request has a malformed header. Header was included in signedheaders, but not in the request.")
    if "host" not in names:
        raise _bad("The host header must be signed.")
    for name in headers:
        # An unsigned header could make another request of it, such as a copy of any object.
        unsigned = name.startswith(("x-goog-", "x-amz-")) and name not in names and name not in _HARMLESS
        if unsigned and not name.endswith("-content-sha256"):
            raise _bad(f"Your request has a malformed header. The header {name} is not among the signed headers.")
    return names


def signed_sha256(headers: Mapping[str, str]) -> str:
    """SHA-256 in hex that a body must have by its headers; empty text where they leave it open. Raises BadRequest."""
    payload = headers.get("x-amz-content-sha256") or headers.get("x-goog-content-sha256") or _UNSIGNED
    if payload == _UNSIGNED:
        return ""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", payload):
        raise xml_error(
            BadRequest, "InvalidArgument", f"The payload hash {payload[:64]!r} is not supported.",
            "Set request_checksum_calculation to when_required in S3 clients, as for the real service.",
        )  # fmt: skip
    return payload.lower()


def _resource_of(request: StreamedRequest) -> str:
    """`/bucket/object`, also where the bucket stands in the host."""
    bucket, dot, rest = request.host.partition(".storage.googleapis.com")
    return f"/{bucket}{request.path}" if dot and not rest else request.path


def _parse_moment(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise _bad(f"{text!r} is no time of the form YYYYMMDDTHHMMSSZ.") from None


def _bad(message: str) -> BadRequest:
    return xml_error(BadRequest, "MalformedSecurityHeader", message)


def _expired(moment: float) -> BadRequest:
    when = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    return xml_error(
        BadRequest, "ExpiredToken", "The provided token has expired.", f"Request signature expired at: {when}"
    )


def _mismatch(text: bytes) -> Forbidden:
    return xml_error(
        Forbidden, "SignatureDoesNotMatch", "Access denied.",
        "The request signature we calculated does not match the signature you provided. Check your Google secret "
        f"key and signing method. StringToSign: {text.decode('latin-1')}",
    )  # fmt: skip
