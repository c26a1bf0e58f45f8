"""Who may call: keys and tokens of this installation, as OAuth and service accounts use them.

Loopback is not trust, because any web page can post to a local port. So a call carries an access token minted
here or a JWT signed with the key of this installation's service account. Access tokens are their own record
(claims and an HMAC), so they outlive a restart without being stored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from google.api_core.exceptions import Unauthenticated

from emulator.core.files import write_private
from emulator.core.service import Caller

#: Clocks of client and emulator are the same machine's; this covers a virtual machine's drift.
_LEEWAY_SECONDS = 300
_ACCESS, _REFRESH = "ya29.", "1//"
_MISSING = (
    "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other "
    "valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
_INVALID = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


class Tokens:
    """Mints and checks; keeps its key and its secret in a folder of the state, mode 0600."""

    def __init__(self, folder: Path, project: str) -> None:
        self._key_file = folder / "service-account.json"
        secret_file = folder / "token-secret"
        if not secret_file.exists():
            write_private(secret_file, secrets.token_bytes(32))
        self._secret = secret_file.read_bytes()
        if not self._key_file.exists():
            write_private(self._key_file, json.dumps(_new_service_account(project), indent=2).encode())
        self._account: dict[str, str] = json.loads(self._key_file.read_bytes())
        self._verify_jwt = lru_cache(maxsize=4096)(self._read_jwt)
        self._verify_opaque = lru_cache(maxsize=4096)(self._read_opaque)

    @property
    def key_file(self) -> Path:
        """The service account's key, for GOOGLE_APPLICATION_CREDENTIALS."""
        return self._key_file

    @property
    def email(self) -> str:
        """The service account of this installation."""
        return self._account["client_email"]

    @staticmethod
    def default_email(project: str) -> str:
        """A service account of a project, as the emulator's own credentials are named."""
        return f"selfloop@{project}.iam.gserviceaccount.com"

    def mint_access_token(self, subject: str, *, sandbox: str = "", lifetime_seconds: float = 3600) -> str:
        """An opaque bearer token."""
        return self._mint(_ACCESS, {"sub": subject, "box": sandbox, "exp": time.time() + lifetime_seconds})

    def mint_refresh_token(self, subject: str) -> str:
        return self._mint(_REFRESH, {"sub": subject})

    def verify_refresh_token(self, token: str) -> str:
        """Its subject. Raises Unauthenticated."""
        if not token.startswith(_REFRESH):
            raise Unauthenticated(_INVALID)
        return str(self._verify_opaque(token)["sub"])

    def mint_id_token(self, subject: str, audience: str) -> str:
        """A JWT that names a caller to somebody else's server."""
        now = int(time.time())
        return self.sign_jwt(
            {
                "iss": "https://accounts.google.com", "aud": audience, "azp": subject, "sub": subject,
                "email": subject, "email_verified": True, "iat": now, "exp": now + 3600,
            }
        )  # fmt: skip

    def verify(self, authorization: str) -> Caller:
        """The caller behind an Authorization header or a bare token. Raises Unauthenticated."""
        scheme, _, token = authorization.partition(" ")
        if not token:
            scheme, token = "bearer", scheme
        if not token or scheme.lower() != "bearer":
            raise Unauthenticated(_MISSING)
        if token.startswith(_ACCESS):
            claims = self._verify_opaque(token)
            if claims["exp"] < time.time():
                raise Unauthenticated(_INVALID)
            return Caller(claims["sub"], claims["box"])
        if token.count(".") != 2:
            raise Unauthenticated(_INVALID)
        claims = self.verify_assertion(token)
        return Caller(str(claims.get("sub") or claims.get("iss") or ""))

    def seconds_left(self, token: str) -> int:
        """How long an access token or a JWT is good for, on the machine's clock. Raises Unauthenticated."""
        claims = self._verify_opaque(token) if token.startswith(_ACCESS) else self.verify_assertion(token)
        return max(0, int(float(claims["exp"]) - time.time()))

    def verify_assertion(self, jwt: str) -> dict[str, Any]:
        """The claims of a JWT that this installation's key signed. Raises Unauthenticated."""
        claims = self._verify_jwt(jwt)
        now = time.time()
        try:
            expiry, issued = float(claims.get("exp", 0)), float(claims.get("iat", 0))
        except (TypeError, ValueError):
            raise Unauthenticated(_INVALID) from None
        if not (expiry >= now - _LEEWAY_SECONDS and issued <= now + _LEEWAY_SECONDS):  # NaN is neither
            raise Unauthenticated(_INVALID)
        return claims

    def sign_bytes(self, data: bytes) -> tuple[str, bytes]:
        """Key id and RSASSA-PKCS1-v1_5 SHA-256 signature, as IAM's signBlob gives."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        return self._account["private_key_id"], self._private_key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def verify_bytes(self, data: bytes, signature: bytes) -> bool:
        """Whether `sign_bytes`, or a client with the key file, made this signature."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        try:
            self._private_key.public_key().verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    def sign_jwt(self, claims: Mapping[str, Any]) -> str:
        """A compact JWT, RS256."""
        header = {"alg": "RS256", "typ": "JWT", "kid": self._account["private_key_id"]}
        signing_input = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(dict(claims)).encode())}"
        return f"{signing_input}.{_encode(self.sign_bytes(signing_input.encode())[1])}"

    def certificates(self) -> dict[str, str]:
        """Key id -> PEM of the public key, for whoever checks a signature."""
        from cryptography.hazmat.primitives import serialization

        pem = self._private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return {self._account["private_key_id"]: pem.decode()}

    @cached_property
    def _private_key(self) -> Any:
        # Parsed at first use: a start that nobody signs in should not pay for it.
        from cryptography.hazmat.primitives import serialization

        return serialization.load_pem_private_key(self._account["private_key"].encode(), password=None)

    def _mint(self, prefix: str, claims: Mapping[str, Any]) -> str:
        payload = prefix + _encode(json.dumps(dict(claims)).encode())
        return f"{payload}.{_encode(hmac.digest(self._secret, payload.encode(), 'sha256'))}"

    def _read_opaque(self, token: str) -> dict[str, Any]:
        payload, _, mac = token.rpartition(".")
        try:
            if not hmac.compare_digest(_decode(mac), hmac.digest(self._secret, payload.encode(), "sha256")):
                raise Unauthenticated(_INVALID)
            claims: dict[str, Any] = json.loads(_decode(payload.removeprefix(_ACCESS).removeprefix(_REFRESH)))
        except ValueError:
            raise Unauthenticated(_INVALID) from None
        return claims

    def _read_jwt(self, jwt: str) -> dict[str, Any]:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        signing_input, _, signature = jwt.rpartition(".")
        try:
            header, claims = (json.loads(_decode(part)) for part in signing_input.split("."))
            if header.get("alg") != "RS256" or not isinstance(claims, dict):
                raise Unauthenticated(_INVALID)
            self._private_key.public_key().verify(
                _decode(signature), signing_input.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except (ValueError, AttributeError, InvalidSignature):
            raise Unauthenticated(_INVALID) from None
        return claims


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _new_service_account(project: str) -> dict[str, str]:
    """The key file of a service account, as `gcloud iam service-accounts keys create` writes it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    email = Tokens.default_email(project)
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": hashlib.sha256(pem.encode()).hexdigest()[:40],
        "private_key": pem,
        "client_email": email,
        "client_id": str(10**20 + int.from_bytes(hashlib.sha256(email.encode()).digest()[:8])),
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{email.replace('@', '%40')}",
        "universe_domain": "googleapis.com",
    }
