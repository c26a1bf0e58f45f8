"""The closed loop."""

from __future__ import annotations

import json

from invoke.context import Context
from invoke.tasks import task

from ops.errors import readable_errors
from ops.printing import TEXT_OR_JSON, output_format
from ops.tasks import options


@task(
    help={
        **options.CHANGING,
        "data": "a CSV file of trips to train on; generated when left out",
        "output": options.TEXT_OR_JSON,
    }
)
def loop(
    c: Context,
    env: str = "local",
    data: str | None = None,
    yes: bool = False,
    output: str = "text",
    emulated: bool = False,
) -> None:
    """Close the loop once: data, training, registry, endpoint, predictions checked against the model itself."""
    with readable_errors():
        from pathlib import Path

        from ops import loop as story
        from ops import worlds
        from ops.config import load_config
        from ops.progress import Report

        chosen = output_format(output, TEXT_OR_JSON)
        config = load_config(env)
        worlds.announce(config, emulated=emulated)
        worlds.confirm(config, f"Train, register and deploy in {config.project}?", yes=yes, emulated=emulated)
        told = story.run(config, Report(), data_file=Path(data) if data else None, emulated=emulated)
        print(json.dumps(told.as_dict(), indent=2) if chosen == "json" else told.as_text())
