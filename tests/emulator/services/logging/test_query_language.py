"""The Logging query language, from text to the entries that pass."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.exceptions import InvalidArgument
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop_apis import POOL, logging_v2

from emulator.services.logging.query_language import parse
from emulator.services.logging.query_match import predicate

ENTRY: dict[str, Any] = {
    "logName": "projects/p-one/logs/aiplatform.googleapis.com%2Fmodel_monitoring",
    "resource": {"type": "ml_job", "labels": {"job_id": "6680", "task_name": "workerpool0-0"}},
    "timestamp": "2026-03-01T10:00:00.123456789Z",
    "severity": "WARNING",
    "insertId": "abc123",
    "labels": {"compute.googleapis.com/zone": "us-central1-a", "empty": ""},
    "httpRequest": {"status": 404, "latency": "0.250s", "requestMethod": "GET", "remoteIp": "10.1.2.3"},
    "jsonPayload": {
        "message": "Epoch 3 of 10 done",
        "loss": 0.25,
        "epoch": 3,
        "ok": True,
        "nothing": None,
        "a.b": "dotted",
        "featureAnomalies": [
            {"featureDisplayName": "trip_miles", "deviation": 0.7},
            {"featureDisplayName": "fare", "deviation": 0.1},
        ],
    },
}


def _entry(document: dict[str, Any]) -> logging_v2.LogEntry:
    return json_format.ParseDict(document, logging_v2.LogEntry(), descriptor_pool=POOL)


def passes(text: str, **changes: Any) -> bool:
    return predicate(parse(text))(_entry({**ENTRY, **changes}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  -- nothing but a comment",
        'resource.type="ml_job"',
        "resource.type = ML_JOB",
        "resource.labels.job_id=6680",
        'resource.labels.job_id="6680" resource.labels.task_name:workerpool',
        'labels."compute.googleapis.com/zone"="us-central1-a"',
        "labels.compute.googleapis.com/zone:central1",
        'labels:"compute.googleapis.com/zone"',
        "labels:*",
        'logName="projects/p-one/logs/aiplatform.googleapis.com%2Fmodel_monitoring"',
        'log_id("aiplatform.googleapis.com/model_monitoring")',
        'source("projects/p-one")',
        "severity=WARNING",
        "severity>=warning",
        "severity>200 severity<=400",
        "severity!=ERROR",
        'severity=("ERROR" OR "WARNING")',
        'timestamp>="2026-03-01T10:00:00Z" AND timestamp<"2026-03-01T10:00:00.2Z"',
        'timestamp="2026-03-01T11:00:00.123456789+01:00"',
        'timestamp>"2026-03-01"',
        'insertId>"abc1"',
        "insert_id=ABC123",
        'jsonPayload.message="epoch 3 of 10 DONE"',
        "json_payload.message:epoch",
        'jsonPayload.message=~"Epoch \\\\d+ of"',
        'jsonPayload.message!~"^done"',
        "jsonPayload.loss<0.5 jsonPayload.loss>=0.25",
        "jsonPayload.epoch=3",
        'jsonPayload.epoch="3"',
        "jsonPayload.ok=true",
        "jsonPayload.nothing=NULL_VALUE",
        'jsonPayload."a.b"=dotted',
        "jsonPayload.featureAnomalies.featureDisplayName=fare",
        "jsonPayload.featureAnomalies.deviation>0.5",
        "jsonPayload:featureAnomalies",
        "jsonPayload.message:*",
        "httpRequest.status=404",
        "httpRequest.latency>=250ms httpRequest.latency<1s",
        "httpRequest.requestMethod=get",
        'ip_in_net(httpRequest.remoteIp, "10.0.0.0/8")',
        '"epoch 3"',
        "trip_miles",
        "404",
        "NOT severity=ERROR",
        "-severity=ERROR",
        "NOT textPayload:x",
        'SEARCH("done EPOCH")',
        'search(jsonPayload.message, "`3 of 10`")',
        "CAST(resource.labels.job_id, INT64)>6000",
        'regexp_extract(jsonPayload.message, "of (\\\\d+)")="10"',
        'cast(regexp_extract(jsonPayload.message, "of (\\\\d+)"), INT64)<11',
        "sample(insertId, 1)",
        'jsonPayload.message:("epoch" AND NOT "failed")',
        "severity=ERROR OR severity=WARNING",
        "(severity=ERROR OR\n severity=WARNING) -- either\n AND resource.type=ml_job",
    ],
)
def test_filter_lets_the_entry_pass(text: str) -> None:
    assert passes(text)


@pytest.mark.parametrize(
    "text",
    [
        "resource.type=gce_instance",
        "severity>WARNING",
        'timestamp<"2026-03-01T10:00:00.123456789Z"',
        "textPayload!=x",
        "jsonPayload.missing!=1",
        "jsonPayload.missing:*",
        "jsonPayload.message>5 jsonPayload.epoch=three",
        "jsonPayload.ok=1",
        'jsonPayload.message=~"EPOCH"',
        "jsonPayload.nothing=null",
        "jsonPayload.Message:epoch",
        'ip_in_net(httpRequest.remoteIp, "192.168.0.0/16")',
        'SEARCH("epo")',
        "sample(insertId, 0)",
        "nowhere",
        "labels.empty=x",
        'log_id("aiplatform.googleapis.com%2Fmodel_monitoring")',
        "NOT (severity=WARNING AND resource.type=ml_job)",
    ],
)
def test_filter_holds_the_entry_back(text: str) -> None:
    assert not passes(text)


def test_or_binds_closer_than_and() -> None:
    assert not passes("resource.type=x AND severity=ERROR OR severity=WARNING")
    assert passes("severity=ERROR OR severity=WARNING AND resource.type=ml_job")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("insertId = abc:def", "Unparseable filter: syntax error at line 1, column 15, token ':'"),
        ('severity>=ERROR\nAND ("x"', "Unparseable filter: syntax error at line 2, column 9, token ''"),
        ("severity=", "syntax error at line 1, column 10"),
        ("AND severity=ERROR", "column 1, token 'AND'"),
        ('"unclosed', "syntax error at line 1, column 1"),
        ("a)", "token '\\)'"),
        ("textPayload=~foo", "regular expressions must begin and end with '\"' at line 1, column 14, token 'foo'"),
        ('textPayload=~"("', "invalid regular expression"),
        ("nosuchfield=1", "Field not found: 'nosuchfield'"),
        ("resource.tipe=x", "Field not found: 'resource.tipe'"),
        ("timestamp>yesterday", "invalid timestamp 'yesterday'"),
        ('timestamp>"2026-13-01"', "invalid timestamp"),
        ("severity=LOUD", "invalid severity 'LOUD'"),
        ("httpRequest.latency>5", "invalid duration"),
        ("nosuchfunction(x)", "'nosuchfunction' is no function"),
        ("(" * 500 + "a" + ")" * 500, "nested too deeply"),
        ("- " * 500 + "a", "nested too deeply"),
        ("x" * 20_001, "20000"),
    ],
)
def test_bad_filter_is_an_invalid_argument(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        predicate(parse(text))


def test_regular_expression_takes_time_linear_in_the_text() -> None:
    evil = 'jsonPayload.message=~"^(a+)+$"'
    assert not passes(evil, jsonPayload={"message": "a" * 50_000 + "!"})


_PIECES = st.sampled_from(
    ["severity", "=", ">=", "ERROR", " ", "AND", "OR", "NOT", "-", "(", ")", '"a b"', "'", ":", "*", "=~", '"(a"', ".",
     "labels", "jsonPayload", "timestamp", '"2026-01-01"', "--", "\n", "\\", ",", "SEARCH(", "log_id(", "cast(", "é",
     "~"]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=30).map("".join) | st.text(max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_filter_or_an_invalid_argument(text: str) -> None:
    try:
        test = predicate(parse(text))
    except InvalidArgument:
        return
    assert test(_entry(ENTRY)) in (True, False)
