"""URL templates against raw paths."""

from __future__ import annotations

import pytest

from emulator.core.routing import Router


@pytest.fixture
def router() -> Router[str]:
    made: Router[str] = Router()
    for uri in (
        "/v1/{name=projects/*/things/*}", "/v1/{name=projects/*/others/*}", "/v1/{name=projects/*/things/*}:stop",
        "/v3/{name=tagKeys/*}", "/v3/tagKeys/namespaced", "/b/{bucket}/o/{object}", "/{name=projects/*/**}/tail",
    ):  # fmt: skip
        made.add("get", uri, uri)
    return made


@pytest.mark.parametrize(
    ("path", "target", "variables"),
    [
        ("/v1/projects/p/things/1", "/v1/{name=projects/*/things/*}", {"name": "projects/p/things/1"}),
        ("/v1/projects/p/others/1", "/v1/{name=projects/*/others/*}", {"name": "projects/p/others/1"}),
        ("/v1/projects/p/things/1:stop", "/v1/{name=projects/*/things/*}:stop", {"name": "projects/p/things/1"}),
        ("/v3/tagKeys/1", "/v3/{name=tagKeys/*}", {"name": "tagKeys/1"}),
        ("/v3/tagKeys/namespaced", "/v3/tagKeys/namespaced", {}),
        ("/b/bkt/o/a%2Fb%252F", "/b/{bucket}/o/{object}", {"bucket": "bkt", "object": "a/b%2F"}),
        ("/projects/p/x/y/z/tail", "/{name=projects/*/**}/tail", {"name": "projects/p/x/y/z"}),
    ],
)
def test_path_finds_its_template(router: Router[str], path: str, target: str, variables: dict[str, str]) -> None:
    assert router.match("get", path) == (target, variables)


@pytest.mark.parametrize("path", ["/v1/projects//things/1", "/v1/projects/p/things", "/v2/tagKeys/1", "/b//o/x", "/"])
def test_path_that_no_template_fits_finds_none(router: Router[str], path: str) -> None:
    assert router.match("get", path) is None
    assert router.match("post", "/v3/tagKeys/1") is None
