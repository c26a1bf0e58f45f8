"""The XML API as S3's client uses it on buckets: settings, versions, many deletions; and composition."""

from __future__ import annotations

import base64
import hmac
import time
from email.utils import formatdate
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Bucket, Client

from tests.conftest import Emulator
from tests.emulator.services.storage.test_xml_api import HOST, code, http, texts

__all__ = ["http"]


@pytest.fixture(params=["s3v4", "s3"])
def s3(request: pytest.FixtureRequest, emulator: Emulator, client: Client) -> Any:
    """boto3 with signatures of version 4, and of version 2 (`Authorization: AWS`)."""
    metadata, secret = client.create_hmac_key(service_account_email="robot@example.iam.gserviceaccount.com")
    config = Config(
        signature_version=request.param, request_checksum_calculation="when_required",
        response_checksum_validation="when_required", s3={"addressing_style": "path"},
    )  # fmt: skip
    return boto3.client(
        "s3", endpoint_url=HOST, aws_access_key_id=metadata.access_id, aws_secret_access_key=secret,
        region_name="auto", config=config, verify=emulator.variables["REQUESTS_CA_BUNDLE"],
    )  # fmt: skip


def test_versions_are_switched_on_listed_read_and_deleted(s3: Any, bucket: Bucket) -> None:
    name = bucket.name
    assert "Status" not in s3.get_bucket_versioning(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    for key in ("a b", "é"):
        for body in (b"one", b"two"):
            s3.put_object(Bucket=name, Key=key, Body=body)
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=name, PaginationConfig={"PageSize": 1})
    versions = [version for page in pages for version in page.get("Versions", [])]
    assert [(version["Key"], version["IsLatest"]) for version in versions] == [
        ("a b", False), ("a b", True), ("é", False), ("é", True)
    ]  # fmt: skip
    first = versions[0]["VersionId"]
    assert s3.get_object(Bucket=name, Key="a b", VersionId=first)["Body"].read() == b"one"
    s3.delete_object(Bucket=name, Key="a b", VersionId=first)
    assert len(s3.list_object_versions(Bucket=name, Prefix="a b")["Versions"]) == 1
    assert s3.get_object(Bucket=name, Key="a b")["Body"].read() == b"two"


def test_many_objects_are_deleted_at_once(s3: Any, bucket: Bucket) -> None:
    keys = ["a", " b ", "dir/ü&<x>", "kept"]
    for key in keys:
        bucket.blob(key).upload_from_string(b"x")
    held = bucket.blob("kept")
    held.temporary_hold = True
    held.patch()
    answer = s3.delete_objects(Bucket=bucket.name, Delete={"Objects": [{"Key": key} for key in [*keys, "none"]]})
    assert [item["Key"] for item in answer["Deleted"]] == [*keys[:3], "none"]
    assert [(item["Key"], item["Code"]) for item in answer["Errors"]] == [("kept", "AccessDenied")]
    assert [blob.name for blob in bucket.list_blobs()] == ["kept"]
    held.temporary_hold = False
    held.patch()
    quiet = s3.delete_objects(Bucket=bucket.name, Delete={"Objects": [{"Key": "kept"}], "Quiet": True})
    assert "Deleted" not in quiet
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.delete_objects(Bucket=f"{bucket.name}-none", Delete={"Objects": [{"Key": "a"}]})


def test_predefined_lists_are_set(s3: Any, bucket: Bucket) -> None:
    s3.put_bucket_acl(Bucket=bucket.name, ACL="public-read")
    assert "allUsers" in {entry["entity"] for entry in bucket.acl}
    s3.put_object(Bucket=bucket.name, Key="x", Body=b"x")
    s3.put_object_acl(Bucket=bucket.name, Key="x", ACL="public-read")
    assert "allUsers" in {entry["entity"] for entry in bucket.blob("x").acl}


def test_wrong_secret_is_refused(s3: Any, bucket: Bucket) -> None:
    s3._request_signer._credentials.secret_key = "wrong"
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3.list_objects(Bucket=bucket.name)


@pytest.mark.parametrize(
    ("setting", "document"),
    [
        ("cors", "<CorsConfig><Cors><Origins><Origin>http://x</Origin></Origins><Methods><Method>GET</Method></Methods>"
                 "<ResponseHeaders><ResponseHeader>X-A</ResponseHeader></ResponseHeaders><MaxAgeSec>60</MaxAgeSec>"
                 "</Cors></CorsConfig>"),
        ("lifecycle", "<LifecycleConfiguration><Rule><Action><SetStorageClass>COLDLINE</SetStorageClass></Action>"
                      "<Condition><Age>3</Age><IsLive>false</IsLive><NumberOfNewerVersions>2</NumberOfNewerVersions>"
                      "<MatchesPrefix>a</MatchesPrefix><MatchesPrefix>b</MatchesPrefix></Condition></Rule>"
                      "</LifecycleConfiguration>"),
    ],
)  # fmt: skip
def test_rules_are_set_shown_and_taken_away(
    http: AuthorizedSession, bucket: Bucket, setting: str, document: str
) -> None:
    url = f"{HOST}/{bucket.name}?{setting}"
    assert http.put(url, data=document).status_code == 200
    assert http.get(url).text.endswith(document)
    bucket.reload()
    if setting == "cors":
        assert bucket.cors == [
            {"origin": ["http://x"], "method": ["GET"], "responseHeader": ["X-A"], "maxAgeSeconds": 60}
        ]
    else:
        (rule,) = bucket.lifecycle_rules
        assert rule["condition"] == {"age": 3, "isLive": False, "numNewerVersions": 2, "matchesPrefix": ["a", "b"]}
    stale = http.put(url, data=document, headers={"x-goog-if-metageneration-match": "77"})
    assert code(stale) == "PreconditionFailed"
    assert code(http.delete(url)) == "NotImplemented"
    root = "CorsConfig" if setting == "cors" else "LifecycleConfiguration"
    for wrong in ("<Other/>", f"<{root}><Other/></{root}>", f"<{root}>", ""):
        assert code(http.put(url, data=wrong)) == "MalformedXML"
    assert code(http.put(url, data=document, headers={"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="})) == "BadDigest"
    assert http.put(url, data=f"<{root}/>").status_code == 200
    bucket.reload()
    assert (bucket.cors, list(bucket.lifecycle_rules)) == ([], [])


def test_list_of_access_is_set_as_it_is_shown(http: AuthorizedSession, bucket: Bucket) -> None:
    bucket.blob("x").upload_from_string(b"x")
    added = (
        '<Entry><Scope type="UserByEmail"><EmailAddress>a@example.com</EmailAddress></Scope>'
        "<Permission>READ</Permission></Entry></Entries>"
    )
    for url, entries in ((f"{HOST}/{bucket.name}?acl", bucket.acl), (f"{HOST}/{bucket.name}/x?acl", None)):
        document = http.get(url).text.replace("</Entries>", added)
        assert http.put(url, data=document).status_code == 200
        assert http.get(url).text == document
        shown = bucket.blob("x").acl if entries is None else entries
        assert {"entity": "user-a@example.com", "role": "READER"} in list(shown)
        assert code(http.put(url, data=document.replace("UserByEmail", "Nobody"))) == "MalformedACLError"
        assert code(http.put(url, data="<AccessControlPolicy/>")) == "MalformedACLError"


def test_objects_are_composed(http: AuthorizedSession, bucket: Bucket) -> None:
    for name, text in (("a", "one "), ("ü", "two")):
        bucket.blob(name).upload_from_string(text)
    generation = bucket.get_blob("a").generation
    url, parts = f"{HOST}/{bucket.name}/whole?compose", "<Component><Name>ü</Name></Component>"
    document = f"<Component><Name>a</Name><Generation>{generation}</Generation></Component>{parts}"
    sent = f"<ComposeRequest>{document}</ComposeRequest>".encode()
    assert http.put(url, data=sent, headers={"Content-Type": "text/plain"}).status_code == 200
    blob = bucket.get_blob("whole")
    assert blob is not None
    assert (blob.download_as_bytes(), blob.component_count, blob.content_type) == (b"one two", 2, "text/plain")
    stale = sent.replace(b"Generation>", b"IfGenerationMatch>").replace(str(generation).encode(), b"1")
    for wrong, told in (
        (sent.replace(b"<Name>a<", b"<Name>none<"), "NoSuchKey"),
        (b"<ComposeRequest/>", "InvalidArgument"),
        (b"<Other/>", "MalformedXML"),
        (stale, "PreconditionFailed"),
    ):
        assert code(http.put(url, data=wrong)) == told
    assert texts(http.get(f"{HOST}/{bucket.name}?versions"), "IsLatest") == ["true"] * 3


def test_header_of_version_2_signs_verb_path_date_and_headers(client: Client, bucket: Bucket) -> None:
    metadata, secret = client.create_hmac_key(service_account_email="robot@example.iam.gserviceaccount.com")
    path, now = f"/{bucket.name}/x", formatdate(usegmt=True)
    bucket.blob("x").upload_from_string(b"x")
    bucket.blob("y").upload_from_string(b"y")

    def sent(verb: str = "GET", to: str = path, date: str = now, key: str = "", **headers: str) -> requests.Response:
        """A request that is signed as a GET of `path` at `date`, whatever it is."""
        signature = base64.b64encode(hmac.digest(secret.encode(), f"GET\n\n\n{date}\n{path}".encode(), "sha1"))
        given = {"Date": date, "Authorization": f"GOOG1 {key or metadata.access_id}:{signature.decode()}"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.request(verb, HOST + to, headers=given | named, timeout=30)

    assert sent().content == b"x"
    source = f"/{bucket.name}/y"
    for refused in (sent("DELETE"), sent("PUT", x_goog_copy_source=source), sent(to=source), sent(to=f"{path}?acl")):
        assert (refused.status_code, code(refused)) == (403, "SignatureDoesNotMatch")
    assert code(sent(x_amz_copy_source=source)) == "MalformedSecurityHeader"
    assert code(sent(date=formatdate(time.time() - 3600, usegmt=True))) == "RequestTimeTooSkewed"
    assert code(sent(date="yesterday")) == "AccessDenied"
    assert code(sent(key="GOOG1EUNKNOWN")) == "InvalidAccessKeyId"
    assert bucket.blob("x").download_as_bytes() == b"x"


def test_part_that_is_a_copy_is_said_to_be_missing(s3: Any, bucket: Bucket) -> None:
    bucket.blob("x").upload_from_string(b"x")
    upload = s3.create_multipart_upload(Bucket=bucket.name, Key="y")["UploadId"]
    source = {"Bucket": bucket.name, "Key": "x"}
    with pytest.raises(ClientError, match="NotImplemented"):
        s3.upload_part_copy(Bucket=bucket.name, Key="y", UploadId=upload, PartNumber=1, CopySource=source)
