"""Names of buckets and objects: which are allowed, and which of them are clean file paths.

Source: https://cloud.google.com/storage/docs/buckets#naming, https://cloud.google.com/storage/docs/objects#naming
"""

from __future__ import annotations

import re
import unicodedata

from google.api_core.exceptions import BadRequest

#: Longest object name and longest part of a path, in UTF-8 bytes.
MAX_NAME_BYTES = 1024
_MAX_PART_BYTES = 255

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]*[a-z0-9]")
_IP_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_URI = re.compile(r"gs://([^/]+)(?:/(.*))?", re.DOTALL)


def check_bucket_name(name: str) -> None:
    """Raises BadRequest for what cannot name a bucket."""
    longest = 222 if "." in name else 63
    allowed = (
        3 <= len(name) <= longest
        and _BUCKET.fullmatch(name)
        and all(0 < len(part) <= 63 for part in name.split("."))
        and not _IP_ADDRESS.fullmatch(name)
        and not name.startswith("goog")
        and "google" not in name
    )
    if not allowed:
        raise BadRequest(f"Invalid bucket name: '{name}'")


def check_object_name(name: str) -> None:
    """Raises BadRequest for what cannot name an object."""
    if not name:
        raise BadRequest("Required", errors=[{"reason": "required"}])
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise BadRequest("The name of an object must be valid UTF-8.") from None
    if length > MAX_NAME_BYTES:
        raise BadRequest(
            f"The maximum object length is {MAX_NAME_BYTES} characters, but got a name with {length} characters."
        )
    if "\n" in name or "\r" in name or name in (".", "..") or name.startswith(".well-known/acme-challenge/"):
        raise BadRequest(f"Disallowed unicode characters present in object name '{name}'")


def is_object_name(name: str) -> bool:
    try:
        check_object_name(name)
    except BadRequest:
        return False
    return True


def path_of(name: str) -> tuple[str, ...] | None:
    """The parts of the file that holds an object under /gcs, or None when no file can stand for its name.

    A matter of safety: whatever would leave the tree or clash with the file system's limits has no path; such an
    object is kept apart and served by the API alone.
    """
    parts = tuple(name.split("/"))
    if any(part in ("", ".", "..") or len(part.encode()) > _MAX_PART_BYTES for part in parts):
        return None
    return None if "\0" in name else parts


def may_alias(name: str) -> bool:
    """Whether some file systems would take the name for that of another object."""
    return not unicodedata.is_normalized("NFC", name)


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and object (or prefix) of `gs://bucket/name`. Raises BadRequest for any other text."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise BadRequest(f"{uri!r} is not of the form gs://bucket/object")
    return match[1], match[2] or ""


def after_prefix(prefix: str) -> str | None:
    """The smallest name that is greater than all names with this prefix; None when there is no such name.

    In code-point order, which is the byte order of UTF-8 and the order of listings.
    """
    while prefix:
        head, last = prefix[:-1], ord(prefix[-1])
        if last < 0x10FFFF:
            # No character is encoded between these two: the range of surrogates.
            return head + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = head
    return None
