"""Plans: small literal cases of desired and live, and the changes between them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ops.reconcile.plan import Action, Plan, in_dependency_order, make_plan
from ops.reconcile.resource import UNKNOWN, Reference, Resource

MODEL = "projects/p/locations/l/models/m"
ENDPOINT = "projects/p/locations/l/endpoints/e"
BUCKET = "projects/p/buckets/b"


def bucket(**spec: Any) -> Resource:
    return Resource("bucket", BUCKET, spec)


def declared_model(code: str = "1", description: str = "") -> Resource:
    return Resource(
        "model",
        MODEL,
        {"code": code, "description": description},
        depends_on=(BUCKET,),
        renewed_by=frozenset({"code"}),
        renews=frozenset({"default"}),
    )


def live_model(code: str = "1", version: str = "7", description: str = "") -> Resource:
    outputs = {"default": version, "champion": "3"}
    return Resource("model", MODEL, {"code": code, "description": description}, outputs=outputs)


def declared_endpoint(version: object = Reference(MODEL, "default")) -> Resource:
    return Resource("endpoint", ENDPOINT, {"slot": {"version": version, "replicas": 1}}, depends_on=(MODEL,))


def live_endpoint(version: str = "7") -> Resource:
    return Resource("endpoint", ENDPOINT, {"slot": {"version": version, "replicas": 1}}, depends_on=(MODEL,))


def actions(plan: Plan) -> list[tuple[str, str]]:
    return [(change.action.value, change.kind) for change in plan.changes]


def test_make_plan_of_equal_sets_is_empty() -> None:
    plan = make_plan([bucket(x=1), declared_model(), declared_endpoint()], [bucket(x=1), live_model(), live_endpoint()])
    assert not plan
    assert plan.as_text() == "no changes"


def test_make_plan_creates_what_is_missing_after_what_it_needs() -> None:
    plan = make_plan([declared_endpoint(), declared_model(), bucket(x=1)], [])
    assert actions(plan) == [("create", "bucket"), ("create", "model"), ("create", "endpoint")]


def test_make_plan_names_the_fields_that_differ() -> None:
    plan = make_plan([bucket(a=1, b={"c": 2, "d": 3}, e=[1])], [bucket(a=1, b={"c": 2, "d": 4}, e=[])])
    assert [str(difference) for difference in plan.changes[0].differences] == ["b.d: 4 -> 3", "e: [] -> [1]"]
    assert plan.changes[0].update_mask == ("b", "e")


def test_make_plan_leaves_alone_what_the_configuration_does_not_own() -> None:
    assert not make_plan([bucket(labels={"ours": "1"})], [bucket(labels={"ours": "1", "theirs": "2"}, acl=["x"])])


def test_make_plan_deletes_what_is_not_declared_dependents_first() -> None:
    assert actions(make_plan([], [bucket(), live_model(), live_endpoint()])) == [
        ("delete", "endpoint"),
        ("delete", "model"),
        ("delete", "bucket"),
    ]


def test_make_plan_resolves_a_reference_to_what_is_live() -> None:
    plan = make_plan([declared_model(), declared_endpoint()], [live_model(version="8"), live_endpoint("7")])
    assert [str(difference) for difference in plan.changes[0].differences] == ['slot.version: "7" -> "8"']


def test_make_plan_of_a_new_version_moves_the_endpoint_to_what_is_known_later() -> None:
    plan = make_plan([declared_model(code="2"), declared_endpoint()], [live_model(code="1"), live_endpoint()])
    assert actions(plan) == [("update", "model"), ("update", "endpoint")]
    assert plan.changes[1].differences[0].desired is UNKNOWN
    assert 'slot.version: "7" -> (known after apply)' in plan.as_text()


def test_make_plan_of_a_model_that_is_only_described_anew_leaves_the_endpoint() -> None:
    plan = make_plan([declared_model(description="x"), declared_endpoint()], [live_model(), live_endpoint()])
    assert actions(plan) == [("update", "model")]


def test_make_plan_of_a_new_version_does_not_move_another_alias() -> None:
    champion = declared_endpoint(Reference(MODEL, "champion"))
    plan = make_plan([declared_model(code="2"), champion], [live_model(), live_endpoint("3")])
    assert actions(plan) == [("update", "model")]


def test_make_plan_does_not_change_its_inputs() -> None:
    desired, live = [declared_model(code="2"), declared_endpoint()], [live_model(), live_endpoint()]
    assert make_plan(desired, live) == make_plan(desired, live)


def test_in_dependency_order_of_a_circle_is_an_error() -> None:
    one = Resource("model", "a", {}, depends_on=("b",))
    two = Resource("model", "b", {}, depends_on=("a",))
    with pytest.raises(ValueError, match="depend on one another"):
        in_dependency_order([one, two])


def test_plan_as_json_has_actions_names_and_differences() -> None:
    document = json.loads(make_plan([bucket(a=1)], [bucket(a=2)]).as_json())
    assert document == {
        "changes": [
            {
                "action": "update",
                "kind": "bucket",
                "name": BUCKET,
                "differences": [{"path": "a", "live": 2, "desired": 1}],
            }
        ],
        "summary": "1 to update",
    }


def test_plan_as_markdown_keeps_foreign_text_inside_its_cell() -> None:
    plan = make_plan([bucket(description="new")], [bucket(description="a|b\n<script>")])
    row = plan.as_markdown().splitlines()[2]
    assert "<script>" not in row
    assert row.replace("\\|", "").count("|") == 4


def test_plan_summary_counts_each_action() -> None:
    plan = make_plan([bucket(a=1), declared_model()], [bucket(a=2), live_endpoint()])
    assert plan.summary() == "1 to create, 1 to update, 1 to delete"
    assert {change.action for change in plan.changes} == set(Action)
