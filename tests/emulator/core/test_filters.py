"""The filter language of list calls, on the messages of Vertex AI."""

from __future__ import annotations

import string
import time

import pytest
from google.api_core.exceptions import InvalidArgument
from hypothesis import given
from hypothesis import strategies as st
from selfloop_apis import aiplatform_v1

from emulator.core import filters

FIELDS = ("display_name", "state", "create_time", "labels", "error.code", "job_spec.service_account")


def job(name: str = "taxi train", **labels: str) -> aiplatform_v1.CustomJob:
    succeeded = aiplatform_v1.JobState.JOB_STATE_SUCCEEDED
    message = aiplatform_v1.CustomJob(display_name=name, state=succeeded, labels=labels)
    message.create_time.FromJsonString("2026-03-01T12:00:00.5Z")
    return message


def passes(text: str, message: aiplatform_v1.CustomJob) -> bool:
    return filters.compile(text, aiplatform_v1.CustomJob, FIELDS)(message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("   ", True),
        ('display_name="taxi train"', True),
        ("display_name='taxi train'", True),
        ('displayName = "taxi train"', True),
        ('display_name="taxi"', False),
        ('display_name!="taxi"', True),
        # A wildcard is one for `:` alone, and the pattern covers the whole value.
        ('display_name:"taxi*"', True),
        ('display_name:"*xi*ain"', True),
        ('display_name:"taxi"', False),
        ('display_name:"t.xi*"', False),
        ('display_name="taxi*"', False),
        ("display_name:*", True),
        ('state="JOB_STATE_SUCCEEDED"', True),
        ("state=JOB_STATE_FAILED", False),
        ("state!=JOB_STATE_FAILED", True),
        ('create_time>"2026-03-01T12:00:00Z"', True),
        ("create_time>2026-03-01T12:00:00.5Z", False),
        ("create_time>=2026-03-01T13:00:00.5+01:00", True),
        ("createTime<2026-03-02T00:00:00Z", True),
        ('create_time="2026-03-01T12:00:00.500Z"', True),
        ("labels.env=prod", True),
        ("labels.env=dev", False),
        ('labels.env:"pr*"', True),
        ("labels.env:*", True),
        ("labels:env", True),
        ("labels:absent", False),
        ("labels.absent:*", False),
        ("labels.absent!=prod", True),
        ('labels."a key"=1', True),
        ("NOT labels.env=prod", False),
        ("-labels.absent:*", True),
        ("NOT (labels:absent OR state=JOB_STATE_FAILED)", True),
        ("labels.env=prod AND state=JOB_STATE_FAILED", False),
        ("labels.env=prod state=JOB_STATE_FAILED", False),
        ("labels.env=prod OR state=JOB_STATE_FAILED", True),
        # OR binds tighter than AND: false AND (true OR true).
        ("labels:absent AND labels:env OR labels:env", False),
        ("(labels:absent AND labels:env) OR labels:env", True),
        ("error.code=0", False),  # an unset message has no fields
        ('job_spec.service_account:"*"', False),
    ],
)  # fmt: skip
def test_compile_decides(text: str, expected: bool) -> None:
    assert passes(text, job(env="prod", **{"a key": "1"})) is expected


@pytest.mark.parametrize(
    "text",
    [
        "display_name",
        "display_name=",
        '="x"',
        "display_name=!x",
        'display_name="unterminated',
        "(display_name=x",
        "display_name=x)",
        "display_name=x AND",
        "display_name=x OR",
        "NOT",
        "update_time>2026-01-01T00:00:00Z",  # exists, but jobs are not filtered by it
        "no_such_field=1",
        "labels.a.b=1",
        "labels=env",
        "display_name.x=1",
        "display_name<x",
        "state=SUCCEEDED",
        "state<JOB_STATE_FAILED",
        "create_time>yesterday",
        "error.code=many",
        "display_name=x and state=JOB_STATE_FAILED",
        "(" * 5000 + "display_name=x" + ")" * 5000,
        "-" * 5000 + "display_name=x",
    ],
)
def test_compile_of_bad_filter_is_invalid_argument(text: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid filter"):
        filters.compile(text, aiplatform_v1.CustomJob, FIELDS)


def test_compile_reads_quotes_inside_quotes() -> None:
    assert passes(r'display_name="say \"hi\""', job('say "hi"'))


def test_compile_counts_any_element_of_a_list() -> None:
    model = aiplatform_v1.Model(version_aliases=["default", "champion"])

    def model_passes(text: str) -> bool:
        return filters.compile(text, aiplatform_v1.Model, ("version_aliases",))(model)

    assert model_passes("version_aliases=champion")
    assert model_passes("version_aliases:ch*")
    assert not model_passes("version_aliases!=champion")
    assert not model_passes("version_aliases:challenger")


def test_compile_offers_computed_fields() -> None:
    computed = {"model_id": lambda m: m.name.rpartition("/")[2]}
    for text in ("model_id=7", "modelId:7*"):
        assert filters.compile(text, aiplatform_v1.Model, (), computed)(aiplatform_v1.Model(name="models/7"))
    test = filters.compile("model_id=7", aiplatform_v1.Model, (), computed)
    assert not test(aiplatform_v1.Model(name="projects/1/locations/l/models/77"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metadata.accuracy.number_value >= 0.5", True),
        ("metadata.accuracy.numberValue = 0.75", True),
        ('metadata.accuracy.string_value = "0.75"', False),
        ('metadata."input:depth".number_value < 3', False),
        ('metadata.inner.struct_value.name.string_value:"t*"', True),
        ("metadata.is_best.bool_value = true", True),
        ("metadata.accuracy:*", True),
        ("metadata.missing:*", False),
        ('in_context("one")', True),
        ('NOT in_context("two") AND uri:"gs://*"', True),
        ('uri:"nothing","gs://b/*"', True),
    ],
)
def test_compile_goes_into_structs_and_calls_functions(text: str, expected: bool) -> None:
    artifact = aiplatform_v1.Artifact(uri="gs://b/model")
    artifact.metadata.update({"accuracy": 0.75, "input:depth": 3, "is_best": True, "inner": {"name": "taxi"}})
    functions = {"in_context": lambda name: lambda message: name == "one"}
    compiled = filters.compile(text, aiplatform_v1.Artifact, ("uri", "metadata"), functions=functions)
    assert compiled(artifact) is expected


@pytest.mark.parametrize(
    "text",
    [
        "metadata = 1", "metadata.a = 1", "metadata.a.number_value = x", "metadata.a.list_value = 1",
        "metadata.a.string_value.b.number_value = 1", "in_context()", "in_context(one", "elsewhere(one)", 'uri="a","b"',
        "(((uri:*)))",
    ],
)  # fmt: skip
def test_compile_of_bad_struct_call_or_depth_is_invalid_argument(text: str) -> None:
    with pytest.raises(InvalidArgument):
        filters.compile(text, aiplatform_v1.Artifact, ("uri", "metadata"), functions={}, deepest=2)


def test_compile_takes_a_resource_name_with_either_form_of_the_project() -> None:
    test = filters.compile(
        'display_name="projects/my-project/x"',
        aiplatform_v1.CustomJob,
        FIELDS,
        canonical=lambda name: name.replace("my-project", "12"),
    )
    assert test(job("projects/12/x"))


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*b*", "abc", True),
        ("*b*b*", "abc", False),
        ("a*bc", "abcbc", True),
        ("a*b*c", "acb", False),
        ("**", "x", True),
        ("a.c", "abc", False),
        ("a*c", "a\nc", True),
    ],
)
def test_wildcard_covers_the_whole_text(pattern: str, text: str, expected: bool) -> None:
    assert filters.wildcard(pattern)(text) is expected


def test_wildcard_with_many_stars_is_quick() -> None:
    started = time.perf_counter()
    assert not filters.wildcard("*a" * 200 + "b")("a" * 10_000)
    assert time.perf_counter() - started < 1


_WORDS = st.sampled_from(
    [*FIELDS, "displayName", "labels.a", "AND", "OR", "NOT", "-", "(", ")", "=", "!=", "<", ">=", ":", "*", '"x"',
     "JOB_STATE_FAILED", "2026-01-01T00:00:00Z", ".", "'", '"', "\\", ","]
)  # fmt: skip


@given(st.one_of(st.text(string.printable, max_size=40), st.lists(_WORDS, max_size=12).map(" ".join)))
def test_compile_of_any_text_decides_or_is_invalid_argument(text: str) -> None:
    try:
        verdict = passes(text, job(env="prod"))
    except InvalidArgument:
        return
    assert verdict in (True, False)
