"""The variables that turn a client to the emulator: `inv emulator.env`, and what a sandboxed job is given.

Which client reads which: docs/clients.md. Both spellings of a proxy variable are set and both of NO_PROXY, because
readers differ in which one wins; variables that are set already are replaced, never extended.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from emulator.core.egress import UPSTREAM_PROXY
from emulator.core.files import write_public

_CA_VARIABLES = (
    "AWS_CA_BUNDLE", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "HTTPLIB2_CA_CERTS", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)  # fmt: skip
_NO_PROXY = "localhost,127.0.0.1,::1"
_FSSPEC = json.dumps({"session_kwargs": {"trust_env": True}}, separators=(",", ":"))


def connection_variables(host: str, port: int, ca_bundle: str) -> dict[str, str]:
    """Proxy and certificates, for any process that shall reach Google's names at the emulator."""
    proxy = f"http://{host}:{port}"
    variables = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "grpc_proxy"), proxy)
    # Plain http:// is asked for by name by the metadata server's clients alone.
    variables |= dict.fromkeys(("HTTP_PROXY", "http_proxy"), proxy)
    variables |= dict.fromkeys(("NO_PROXY", "no_proxy"), _NO_PROXY)
    variables |= dict.fromkeys(_CA_VARIABLES, ca_bundle)
    return variables | {
        "FSSPEC_GCS": _FSSPEC,
        "FSSPEC_GS": _FSSPEC,
        "GOOGLE_API_USE_CLIENT_CERTIFICATE": "false",
        "GOOGLE_API_USE_MTLS_ENDPOINT": "never",
        "GOOGLE_CLOUD_DISABLE_DIRECT_PATH": "true",
    }


def shell_variables(
    *,
    host: str,
    port: int,
    ca_bundle: Path,
    key_file: Path,
    project: str,
    location: str,
    cloudsdk_config: Path,
    gsutil_config: Path,
) -> dict[str, str]:
    """Everything that `inv emulator.env` exports: connection, identity, project and gcloud's own settings."""
    return connection_variables(host, port, str(ca_bundle)) | {
        "BOTO_CONFIG": str(gsutil_config),
        "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": str(key_file),
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "CLOUDSDK_CONFIG": str(cloudsdk_config),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_CORE_PROJECT": project,
        "CLOUDSDK_AI_REGION": location,
        "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "1",
        "GOOGLE_APPLICATION_CREDENTIALS": str(key_file),
        "GOOGLE_CLOUD_LOCATION": location,
        "GOOGLE_CLOUD_PROJECT": project,
        "GOOGLE_CLOUD_REGION": location,
        "NO_GCE_CHECK": "true",
        UPSTREAM_PROXY: upstream_proxy(os.environ),
    }


def write_gsutil_config(path: Path, key_file: Path) -> None:
    """gsutil's own file of settings: unlike gcloud, it takes no key from a variable.

    Its folder of cached tokens stands beside the file, for tokens are good for one installation only.
    """
    write_public(
        path,
        f"""[Credentials]
gs_service_key_file = {key_file}
[GSUtil]
state_dir = {path.parent / "gsutil"}
software_update_check_period = 0
""".encode(),
    )


def sandbox_variables(*, port: int, ca_bundle: str, package_index: Mapping[str, str]) -> dict[str, str]:
    """What code inside a sandbox gets: no key, but a metadata server that answers for its service account."""
    return connection_variables("127.0.0.1", port, ca_bundle) | {
        "GCE_METADATA_HOST": f"127.0.0.1:{port}",
        "GCE_METADATA_IP": f"127.0.0.1:{port}",
        "GCE_METADATA_ROOT": f"127.0.0.1:{port}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        **package_index,
    }


def upstream_proxy(environment: Mapping[str, str]) -> str:
    """The proxy to the world outside, as it was before any exports of an emulator."""
    if UPSTREAM_PROXY in environment:
        return environment[UPSTREAM_PROXY]
    return urllib.request.getproxies().get("https", "")
