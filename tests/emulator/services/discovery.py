"""Clients made of discovery documents, for the APIs that exist only as JSON."""

from __future__ import annotations

from typing import Any

from tests.conftest import Emulator


def discovery_client(emulator: Emulator, api: str, version: str) -> Any:
    """`googleapiclient.discovery.build` as in a process that was started inside the exports.

    httplib2 looks for its certificates when it is imported, which here may have been before there was an emulator.
    """
    import google.auth
    import google_auth_httplib2
    import httplib2
    from googleapiclient import discovery

    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    http = httplib2.Http(ca_certs=emulator.variables["HTTPLIB2_CA_CERTS"])
    authorized = google_auth_httplib2.AuthorizedHttp(credentials, http=http)
    return discovery.build(api, version, http=authorized, static_discovery=True)
