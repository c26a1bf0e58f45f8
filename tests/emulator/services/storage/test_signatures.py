"""Signed addresses, forms and headers: what Google's client and S3 clients sign, and what is wrong with others."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from google.auth import default
from google.cloud.storage import Bucket, Client

from tests.conftest import Emulator, wait_until
from tests.emulator.services.storage.test_xml_api import code

HOUR = datetime.timedelta(hours=1)


def signed(bucket: Bucket, name: str = "a dir/fïle", version: str = "v4", **options: Any) -> str:
    credentials, _ = default()
    return str(bucket.blob(name).generate_signed_url(HOUR, version=version, credentials=credentials, **options))


@pytest.fixture
def http() -> Iterator[requests.Session]:
    """No credentials of its own."""
    with requests.Session() as session:
        yield session


@pytest.mark.parametrize("version", ["v2", "v4"])
@pytest.mark.parametrize("name", ["x", "a dir/fïle", "a//b", "..x", "a%2Fb", "~a+b&c=d"])
def test_signed_url_puts_gets_and_deletes(http: requests.Session, bucket: Bucket, version: str, name: str) -> None:
    put = signed(bucket, name, version, method="PUT", content_type="text/plain")
    stored = http.put(put, data=b"hello", headers={"Content-Type": "text/plain"})
    assert stored.status_code == 200, stored.text
    assert http.get(signed(bucket, name, version)).content == b"hello"
    assert http.delete(signed(bucket, name, version, method="DELETE")).status_code == 204
    assert not bucket.blob(name).exists()


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_signed_url_names_the_answer(http: requests.Session, bucket: Bucket, version: str) -> None:
    bucket.blob("x").upload_from_string(b"x")
    disposition = "attachment; filename=ü.txt"
    url = signed(bucket, "x", version, response_disposition=disposition, response_type="text/x-other")
    answer = http.get(url)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/x-other"
    assert answer.headers["content-disposition"].encode("latin-1").decode() == disposition


def test_signed_url_with_the_bucket_in_the_host_and_for_the_bucket(http: requests.Session, bucket: Bucket) -> None:
    bucket.blob("x").upload_from_string(b"x")
    assert http.get(signed(bucket, "x", virtual_hosted_style=True)).content == b"x"
    credentials, _ = default()
    listing = http.get(bucket.generate_signed_url(HOUR, version="v4", credentials=credentials))
    assert "<Key>x</Key>" in listing.text


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_signed_url_begins_a_resumable_upload(http: requests.Session, bucket: Bucket, version: str) -> None:
    begun = http.post(signed(bucket, "x", version, method="RESUMABLE"), headers={"x-goog-resumable": "start"})
    assert begun.status_code == 201, begun.text
    assert http.put(begun.headers["location"], data=b"hello").status_code == 200
    assert bucket.blob("x").download_as_bytes() == b"hello"


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_what_was_not_signed_is_refused(http: requests.Session, bucket: Bucket, version: str) -> None:
    bucket.blob("x").upload_from_string(b"x")
    bucket.blob("y").upload_from_string(b"y")
    url = signed(bucket, "x", version)
    other = url.replace(f"{bucket.name}/x", f"{bucket.name}/y")
    for answer in (http.put(url, data=b"z"), http.delete(url), http.get(other), http.get(url + "&acl=")):
        assert (answer.status_code, code(answer)) == (403, "SignatureDoesNotMatch")
    at = url.index("Signature=") + len("Signature=")
    assert http.get(f"{url[:at]}{'1' if url[at] == '0' else '0'}{url[at + 1 :]}").status_code == 403
    put = signed(bucket, "x", version, method="PUT")
    stolen = http.put(put, headers={"x-goog-copy-source": f"{bucket.name}/y"})
    assert stolen.status_code in (400, 403)
    assert bucket.blob("x").download_as_bytes() == b"x"


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_expired_url_is_refused(http: requests.Session, bucket: Bucket, version: str) -> None:
    bucket.blob("x").upload_from_string(b"x")
    credentials, _ = default()
    options = {"version": version, "credentials": credentials}
    if version == "v2":
        url = bucket.blob("x").generate_signed_url(int(time.time()) - 2, **options)
    else:
        fresh = signed(bucket, "x")
        assert code(http.get(fresh.replace("Expires=3600", "Expires=604801"))) == "MalformedSecurityHeader"
        url = bucket.blob("x").generate_signed_url(datetime.timedelta(seconds=1), **options)
    wait_until(lambda: http.get(url).status_code != 200)
    answer = http.get(url)
    assert (answer.status_code, code(answer)) == (400, "ExpiredToken")


def test_signed_url_follows_real_time(emulator: Emulator, http: requests.Session, bucket: Bucket) -> None:
    bucket.blob("x").upload_from_string(b"x")
    before = signed(bucket, "x")
    emulator.control("POST", "clock", {"advance_seconds": 48 * 3600})
    assert http.get(before).content == b"x"
    assert http.get(signed(bucket, "x")).content == b"x"


def test_form_with_a_policy(http: requests.Session, client: Client, bucket: Bucket) -> None:
    credentials, _ = default()
    policy = client.generate_signed_post_policy_v4(
        bucket.name, "dir/fïle", HOUR, credentials=credentials,
        conditions=[["content-length-range", 2, 10]],
        fields={"x-goog-meta-key": "value", "success_action_status": "201"},
    )  # fmt: skip

    def post(data: bytes, **changes: str) -> requests.Response:
        fields = {**policy["fields"], **changes}
        return http.post(policy["url"], data=fields, files={"file": ("name.txt", data, "text/plain")})

    assert code(post(b"x")) == "EntityTooSmall"
    assert code(post(b"x" * 11)) == "EntityTooLarge"
    assert code(post(b"xxx", key="other")) == "AccessDenied"
    assert code(post(b"xxx", extra="1")) == "AccessDenied"
    assert code(post(b"xxx", **{"x-goog-signature": "00"})) == "SignatureDoesNotMatch"
    assert list(bucket.list_blobs()) == []
    answer = post(b"xxx")
    assert (answer.status_code, "<Key>dir/fïle</Key>" in answer.content.decode()) == (201, True)
    blob = bucket.get_blob("dir/fïle")
    assert blob is not None
    assert (blob.download_as_bytes(), blob.metadata, blob.content_type) == (b"xxx", {"key": "value"}, "text/plain")
    bare = http.post(policy["url"], data={"key": "x"}, files={"file": b"x"})
    assert code(bare) == "AccessDenied"


@pytest.fixture
def hmac_key(client: Client) -> tuple[str, str]:
    metadata, secret = client.create_hmac_key(service_account_email="robot@example.iam.gserviceaccount.com")
    return str(metadata.access_id), secret


@pytest.fixture
def s3(emulator: Emulator, hmac_key: tuple[str, str]) -> Any:
    return s3_client(emulator, *hmac_key)


def s3_client(emulator: Emulator, access_id: str, secret: str, endpoint: str = "https://storage.googleapis.com") -> Any:
    config = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=access_id, aws_secret_access_key=secret, region_name="auto",
        config=config, verify=emulator.variables["REQUESTS_CA_BUNDLE"],
    )  # fmt: skip


def test_boto3_on_the_xml_interface(s3: Any, client: Client, project: str) -> None:
    name = f"{project}-s3"
    s3.create_bucket(Bucket=name)
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == [name]
    for key in ["a", "dir/ünï cöde", "dir/b c+d"]:
        s3.put_object(Bucket=name, Key=key, Body=b"hello", Metadata={"key": "value"})
    got = s3.get_object(Bucket=name, Key="dir/ünï cöde", Range="bytes=1-2")
    assert (got["Body"].read(), got["Metadata"]) == (b"el", {"key": "value"})
    listing = s3.list_objects_v2(Bucket=name, Delimiter="/")
    assert [entry["Key"] for entry in listing["Contents"]] == ["a"]
    assert listing["CommonPrefixes"] == [{"Prefix": "dir/"}]
    assert {entry["Key"] for entry in s3.list_objects(Bucket=name)["Contents"]} == {"a", "dir/ünï cöde", "dir/b c+d"}
    s3.copy_object(Bucket=name, Key="copy", CopySource={"Bucket": name, "Key": "dir/ünï cöde"})
    assert s3.head_object(Bucket=name, Key="copy")["ContentLength"] == 5
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=name, Key="none")
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=name, Key="none")
    assert client.bucket(name).get_blob("a") is not None


def test_boto3_uploads_a_large_file_in_parts(s3: Any, bucket: Bucket, tmp_path: Any) -> None:
    file, back = tmp_path / "file", tmp_path / "back"
    file.write_bytes(b"0123456789abcdef" * (1 << 20))
    s3.upload_file(str(file), bucket.name, "large")
    s3.download_file(bucket.name, "large", str(back))
    assert back.read_bytes() == file.read_bytes()


def test_boto3_on_the_plain_port(
    emulator: Emulator, hmac_key: tuple[str, str], bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    s3 = s3_client(emulator, *hmac_key, endpoint=emulator.address)
    s3.put_object(Bucket=bucket.name, Key="x", Body=b"hello")
    assert s3.get_object(Bucket=bucket.name, Key="x")["Body"].read() == b"hello"


def test_presigned_url_of_boto3(http: requests.Session, s3: Any, bucket: Bucket) -> None:
    s3 = s3_client_v4(s3)
    bucket.blob("x y").upload_from_string(b"x")
    url = s3.generate_presigned_url("get_object", {"Bucket": bucket.name, "Key": "x y"}, ExpiresIn=60)
    assert http.get(url).content == b"x"
    assert code(http.get(url.replace("x%20y", "z"))) == "SignatureDoesNotMatch"


def s3_client_v4(s3: Any) -> Any:
    credentials = s3._request_signer._credentials
    return boto3.client(
        "s3", endpoint_url="https://storage.googleapis.com", aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key, region_name="auto", config=Config(signature_version="s3v4"),
    )  # fmt: skip


def test_wrong_secret_and_inactive_key_are_refused(
    emulator: Emulator, client: Client, hmac_key: tuple[str, str], bucket: Bucket
) -> None:
    access_id, secret = hmac_key
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3_client(emulator, access_id, "wrong").list_objects_v2(Bucket=bucket.name)
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        s3_client(emulator, "GOOG1EUNKNOWN", secret).list_objects_v2(Bucket=bucket.name)
    key = client.get_hmac_key_metadata(access_id)
    key.state = "INACTIVE"
    key.update()
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        s3_client(emulator, access_id, secret).list_objects_v2(Bucket=bucket.name)


def test_body_that_was_not_signed_is_refused(http: requests.Session, hmac_key: tuple[str, str], bucket: Bucket) -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url = f"http://storage.googleapis.com/{bucket.name}/x"
    request = AWSRequest("PUT", url, data=b"hello")
    S3SigV4Auth(Credentials(*hmac_key), "s3", "auto").add_auth(request)
    headers = dict(request.headers)
    if headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD":
        pytest.fail("the body was not signed")
    secure = url.replace("http:", "https:")
    assert code(http.put(secure, data=b"other", headers=headers)) == "XAmzContentSHA256Mismatch"
    assert not bucket.blob("x").exists()
    assert http.put(secure, data=b"hello", headers=headers).status_code == 200


CORS = [
    {"origin": ["http://localhost:3000"], "method": ["GET", "PUT"], "responseHeader": ["X-Own"], "maxAgeSeconds": 60}
]


def test_cors_by_the_buckets_settings(http: requests.Session, bucket: Bucket) -> None:
    bucket.cors = CORS
    bucket.patch()
    bucket.blob("x").upload_from_string(b"x")
    url = signed(bucket, "x")
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "PUT",
             "Access-Control-Request-Headers": "x-own"}  # fmt: skip
    allowed = http.options(url, headers=asked)
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert allowed.headers["access-control-max-age"] == "60"
    answer = http.get(url, headers={"Origin": "http://localhost:3000"})
    assert (answer.content, answer.headers["access-control-expose-headers"]) == (b"x", "X-Own")
    for change in ({"Origin": "http://evil"}, {"Access-Control-Request-Method": "DELETE"},
                   {"Access-Control-Request-Headers": "x-other"}):  # fmt: skip
        assert "access-control-allow-origin" not in http.options(url, headers={**asked, **change}).headers


def test_page_may_use_a_signed_url_on_the_plain_port_and_nothing_else(emulator: Emulator, bucket: Bucket) -> None:
    bucket.blob("x").upload_from_string(b"x")
    credentials, _ = default()
    url = bucket.blob("x").generate_signed_url(
        HOUR, version="v4", credentials=credentials, api_access_endpoint=emulator.address
    )
    page = {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "cross-site"}
    preflight = {**page, "Access-Control-Request-Method": "GET"}
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(url).content == b"x"
        assert session.get(url, headers=page).status_code == 403
        assert session.options(url, headers=preflight).status_code == 403
        bucket.cors = CORS
        bucket.patch()
        assert session.options(url, headers=preflight).status_code == 200
        assert session.get(url, headers=page).content == b"x"
        # Without a signature it is only a page that posts to a local port.
        assert session.get(url.partition("?")[0], headers=page).status_code == 403
        assert session.get(url[:-4] + "0000", headers=page).status_code == 403
        json_api = f"{emulator.address}/storage/v1/b/{bucket.name}/o/{quote('x')}?alt=media"
        assert session.get(json_api, headers=page).status_code == 403
