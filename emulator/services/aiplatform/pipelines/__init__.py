"""Pipeline jobs: compiled pipelines (PipelineSpec IR) read into a plan, and run.

What a pipeline says, all pure functions:
    plan.py          components and tasks, typed
    compiler.py      PipelineSpec -> plan, or what is wrong with it; it reads by spec_node.py
    expressions.py   conditions and selectors
    parameters.py    types of parameters, and values of them
    placeholders.py  `{{$...}}` in commands and values
    machines.py      resources -> machine type
    values.py        what goes from task to task

A run:
    submission.py    what is checked of a job before it is taken
    runs.py          jobs at work, a thread each
    engine.py        which task is due, and what follows from its end: nodes.py is the tree, inputs.py what goes in
    steps.py         a container is a custom job, an importer an artifact
    containers.py    ExecutorInput and ExecutorOutput: what a container is told and what it leaves
    cache.py         results of earlier tasks
    task_details.py, lineage.py, run_logs.py   what is written down of it
"""
