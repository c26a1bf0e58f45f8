"""Encryption keys of customers: which key an object was given with, and whether a call brings it.

The key itself is never kept: its hash decides who may read. The bytes lie on this machine's disk as they are.
Source: https://cloud.google.com/storage/docs/encryption/customer-supplied-keys
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping

from google.api_core.exceptions import BadRequest

from emulator.services.storage.catalogue import StoredObject

_PREFIX = "x-goog-encryption-"
_SOURCE_PREFIX = "x-goog-copy-source-encryption-"


def given_key(headers: Mapping[str, str], *, source: bool = False) -> str:
    """SHA-256 of the key that a call carries, in base64; empty text without one.

    source: of the key of a copy's source. Raises BadRequest for a key that is none.
    """
    prefix = _SOURCE_PREFIX if source else _PREFIX
    algorithm, key, digest = (headers.get(f"{prefix}{part}", "") for part in ("algorithm", "key", "key-sha256"))
    if not (algorithm or key or digest):
        return ""
    if algorithm != "AES256":
        raise _bad("customerEncryptionAlgorithmIsInvalid", "The encryption algorithm is not supported.")
    try:
        raw = base64.b64decode(key, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise _bad("customerEncryptionKeyFormatIsInvalid", "Missing an encryption key, or it is not base64 encoded.")
    actual = base64.b64encode(hashlib.sha256(raw).digest()).decode()
    if digest != actual:
        raise _bad(
            "customerEncryptionKeySha256IsInvalid", "Missing a SHA256 hash of the encryption key, or it differs."
        )
    return actual


def encrypted(fields: dict[str, object], key: str) -> dict[str, object]:
    """An object's fields with the mark of the key that it was given with, if any."""
    without = {name: value for name, value in fields.items() if name != "customerEncryption"}
    if not key:
        return without
    return {**without, "customerEncryption": {"encryptionAlgorithm": "AES256", "keySha256": key}}


def key_of(stored: StoredObject) -> str:
    """SHA-256 of the key that an object was given with."""
    return str(stored.settings.get("customerEncryption", {}).get("keySha256", ""))


def check_key(stored: StoredObject, key: str) -> None:
    """Raises BadRequest unless a call may read the bytes."""
    wanted = key_of(stored)
    if wanted == key:
        return
    if not key:
        raise _bad(
            "resourceIsEncryptedWithCustomerEncryptionKey",
            "The target object is encrypted by a customer-supplied encryption key.",
        )
    if not wanted:
        raise _bad(
            "resourceNotEncryptedWithCustomerEncryptionKey",
            "The target object is not encrypted by a customer-supplied encryption key.",
        )
    raise _bad("customerEncryptionKeyIsIncorrect", "The provided encryption key is incorrect.")


def _bad(reason: str, message: str) -> BadRequest:
    return BadRequest(message, errors=[{"reason": reason, "extendedHelp": _HELP}])


_HELP = "https://cloud.google.com/storage/docs/encryption#customer-supplied"
