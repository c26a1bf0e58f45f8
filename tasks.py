"""The table of contents: every command of the project, as `inv --list` shows them.

The tasks are in `ops/tasks`, a module a group.
"""

from __future__ import annotations

from invoke.collection import Collection

from ops.tasks import data, desired_state, emulator, endpoints, experiments, look_after, models, pipelines, story


def _group(name: str, **tasks: object) -> Collection:
    """Tasks under a name; a trailing underscore spares those that are named as Python's own words."""
    collection = Collection(name)
    for task_name, body in tasks.items():
        collection.add_task(body, name=task_name.rstrip("_"))  # type: ignore[arg-type]  # what @task gives
    return collection


ns = Collection(
    look_after.doctor, desired_state.init, look_after.check, look_after.bench,
    desired_state.plan, desired_state.apply,
    models.train, desired_state.deploy, models.predict,
    story.loop,
)  # fmt: skip

tests = _group("test", long=look_after.test_long)
tests.add_task(look_after.test, name="all", default=True)

for group in (
    tests,
    _group("config", show=desired_state.config_show, schema=desired_state.config_schema),
    _group(
        "model",
        list=models.model_list,
        describe=models.model_describe,
        endpoint=models.model_endpoint,
        remove=models.model_remove,
        train=models.train,
        deploy=desired_state.deploy,
    ),
    _group(
        "pipeline",
        compile_=pipelines.pipeline_compile,
        run=pipelines.pipeline_run,
        schedule=pipelines.pipeline_schedule,
        list=pipelines.pipeline_list,
        status=pipelines.pipeline_status,
        logs=pipelines.pipeline_logs,
        diff=pipelines.pipeline_diff,
    ),
    _group("endpoint", status=endpoints.endpoint_status, test=endpoints.endpoint_test),
    _group(
        "experiments",
        list=experiments.experiments_list,
        compare=experiments.experiments_compare,
        show=experiments.experiments_show,
    ),
    _group("data", seed=data.data_seed, import_=data.data_import),
    _group(
        "emulator",
        up=emulator.emulator_up,
        down=emulator.emulator_down,
        status=emulator.emulator_status,
        env=emulator.emulator_env,
        exec=emulator.emulator_exec,
        logs=emulator.emulator_logs,
        reset=emulator.emulator_reset,
        snapshot=emulator.emulator_snapshot,
        snapshots=emulator.emulator_snapshots,
        restore=emulator.emulator_restore,
        advance=emulator.emulator_advance,
        coverage=emulator.emulator_coverage,
        journal=emulator.emulator_journal,
    ),
):
    ns.add_collection(group)
