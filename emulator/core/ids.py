"""Ids as Google's services give them."""

from __future__ import annotations

import secrets


def new_id() -> str:
    """A decimal of 18 or 19 digits that fits a signed 64-bit integer, as Vertex AI's are."""
    return str(10**17 + secrets.randbelow(9 * 10**18))


def new_etag() -> str:
    """An opaque version mark in the style of Vertex AI's `AMEw9y…=`."""
    return f"AMEw9y{secrets.token_urlsafe(33)}="
