from __future__ import annotations

import pytest
from google.api_core.exceptions import BadRequest
from hypothesis import given
from hypothesis import strategies as st

from emulator.services.storage.multipart import MultipartUpload


def message(data: bytes, *, end: bytes, boundary: bytes = b"==B==", epilogue: bytes = b"") -> bytes:
    lines = [
        b"--" + boundary,
        b"Content-Type: application/json",
        b"MIME-Version: 1.0",
        b"",
        b'{"name": "x"}',
        b"--" + boundary,
        b"Content-Type: text/plain",
        b"Content-Transfer-Encoding: binary",
        b"",
        data,
        b"--" + boundary + b"--",
    ]
    return end.join(lines) + epilogue


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("boundary", ["==B==", '"==B=="', "'==B=='"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_multipart_is_read_as_every_client_writes_it(boundary: str, end: bytes) -> None:
    upload = MultipartUpload(f"multipart/related; boundary={boundary}", [message(b"hello", end=end)])
    assert upload.metadata == {"name": "x"}
    assert upload.content_type == "text/plain"
    assert b"".join(upload.data()) == b"hello"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@given(
    data=st.binary(max_size=200) | st.sampled_from([b"", b"\n", b"\r\n", b"\n\n", b"a\r", b"--==B=", b"\n--==B="]),
    size=st.integers(1, 60),
)
def test_multipart_data_comes_out_as_it_went_in(end: bytes, data: bytes, size: int) -> None:
    upload = MultipartUpload("multipart/related; boundary===B==", cut(message(data, end=end, epilogue=end), size))
    assert b"".join(upload.data()) == data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary at all\n",
        message(b"hello", end=b"\r\n").removesuffix(b"--==B==--"),
        b"--==B==\n\nnot json\n--==B==\n\nx\n--==B==--",
        b"--==B==\n\n[1]\n--==B==\n\nx\n--==B==--",
        b'--==B==\n\n{"name": "x"}\n--==B==--\n',
    ],
)
def test_multipart_that_is_cut_or_malformed_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        list(MultipartUpload("multipart/related; boundary===B==", cut(body, 7)).data())


def test_multipart_without_a_boundary_is_refused() -> None:
    with pytest.raises(BadRequest, match="boundary"):
        MultipartUpload("multipart/related", [b"x"])
