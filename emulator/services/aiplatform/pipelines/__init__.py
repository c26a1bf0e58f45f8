"""Pipeline jobs: compiled pipelines (PipelineSpec IR) read into a plan, and run.

expressions.py   conditions and selectors
parameters.py    types of parameters, and values of them
plan.py          what a compiled pipeline says, typed
compiler.py      PipelineSpec -> plan, or what is wrong with it
placeholders.py  `{{$...}}` in commands and values
containers.py    ExecutorInput and ExecutorOutput: what a container is told and what it leaves
engine.py        tasks at work: when each is due, and what follows from its end
runs.py          pipeline jobs at work
"""
