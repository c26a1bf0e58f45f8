"""The local Google Cloud."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops import printing
from ops.errors import OpsError, readable_errors
from ops.tasks.options import ENV, TEXT_OR_JSON, YES

if TYPE_CHECKING:
    from ops.control import Control


@task(help={"env": ENV, "foreground": "stay, and print one line holding `ready` and the address once it answers"})
def emulator_up(c: Context, env: str = "local", foreground: bool = False) -> None:
    """Start the local Google Cloud; says so when one runs already."""
    with readable_errors():
        from ops import emulator
        from ops.config import load_config

        config = load_config(env)
        if foreground:
            emulator.run_in_foreground(config)
        control, started = emulator.ensure(config)
        print(f"ready {control.address}" if started else emulator.running_line(control))
        if started:
            print('turn a shell to it with: eval "$(inv emulator.env)"', file=sys.stderr)


@task(help={"env": ENV})
def emulator_down(c: Context, env: str = "local") -> None:
    """Stop the local Google Cloud; its state stays."""
    with readable_errors():
        from ops import emulator
        from ops.config import load_config

        control = emulator.stop(load_config(env))
        print(f"stopped {control.address}" if control else "no emulator runs")


@task(help={"env": ENV})
def emulator_status(c: Context, env: str = "local") -> None:
    """Print what the running emulator says of itself as JSON; exit code 1 when none runs."""
    with readable_errors():
        control = _control(env)
        print(json.dumps({"address": control.address, **control.get("health")}, indent=2))


@task(help={"env": ENV})
def emulator_env(c: Context, env: str = "local") -> None:
    """Print the exports that turn a shell to the emulator: eval "$(inv emulator.env)"."""
    with readable_errors():
        from ops import emulator
        from ops.config import load_config

        print(emulator.exports(load_config(env)))


@task(name="exec", help={"env": ENV, "isolated": "in a network in which there is only the emulator"})
def emulator_exec(c: Context, env: str = "local", isolated: bool = False) -> None:
    """Run one command inside the exports: inv emulator.exec -- gcloud ai models list."""
    with readable_errors():
        from ops import emulator
        from ops.config import load_config

        # invoke joins what follows the dashes with spaces; the words themselves are in sys.argv.
        words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
        raise Exit(code=emulator.execute(load_config(env), words, isolated=isolated))


@task(help={"env": ENV, "lines": "how many of the last ones", "follow": "go on as it grows"})
def emulator_logs(c: Context, env: str = "local", lines: int = 50, follow: bool = False) -> None:
    """Print the emulator's own log."""
    with readable_errors():
        from ops import emulator
        from ops.config import load_config

        emulator.show_log(load_config(env), lines, follow=follow)


@task(help={"env": ENV, "yes": YES})
def emulator_reset(c: Context, env: str = "local", yes: bool = False) -> None:
    """Forget everything that the emulator keeps."""
    with readable_errors():
        from ops import emulator, worlds
        from ops.config import load_config

        config, control = load_config(env), _control(env)
        worlds.confirm(config, f"Forget everything in {control.state}?", yes=yes)
        control.post("reset")
        print(f"ready {emulator.restarted(control).address}")


@task(positional=["name"], help={"env": ENV, "name": "letters, digits, dashes"})
def emulator_snapshot(c: Context, name: str, env: str = "local") -> None:
    """Keep a copy of the emulator's state under a name."""
    with readable_errors():
        _control(env).post("snapshots", {"name": name})
        print(name)


@task(help={"env": ENV, "output": TEXT_OR_JSON})
def emulator_snapshots(c: Context, env: str = "local", output: str = "text") -> None:
    """List the copies of the emulator's state."""
    with readable_errors():
        chosen = printing.output_format(output, printing.TEXT_OR_JSON)
        printing.print_rows(_control(env).get("snapshots")["snapshots"], chosen)


@task(positional=["name"], help={"env": ENV, "name": "of a snapshot", "yes": YES})
def emulator_restore(c: Context, name: str, env: str = "local", yes: bool = False) -> None:
    """Go back to a snapshot."""
    with readable_errors():
        from urllib.parse import quote

        from ops import emulator, worlds
        from ops.config import load_config

        config, control = load_config(env), _control(env)
        worlds.confirm(config, f"Replace the state in {control.state} by the snapshot {name}?", yes=yes)
        control.post(f"snapshots/{quote(name, safe='')}/restore")
        print(f"ready {emulator.restarted(control).address}")


@task(help={"env": ENV, "hours": "how many", "seconds": "how many more"})
def emulator_advance(c: Context, env: str = "local", hours: float = 0.0, seconds: float = 0.0) -> None:
    """Move the emulator's clock on; prints its time."""
    with readable_errors():
        total = hours * 3600 + seconds
        if total <= 0:
            raise OpsError("say how far: inv emulator.advance --hours 24")
        print(_control(env).post("clock", {"advance_seconds": total})["now"])


@task(help={"env": ENV, "service": "only services whose name contains this, method by method", "output": TEXT_OR_JSON})
def emulator_coverage(c: Context, env: str = "local", service: str = "", output: str = "text") -> None:
    """Say how far each service is emulated: absent, shape, behaves or checked."""
    with readable_errors():
        from ops import emulator

        chosen = printing.output_format(output, printing.TEXT_OR_JSON)
        levels = {n: methods for n, methods in _control(env).get("coverage").items() if service in n}
        text = emulator.coverage_text(levels, by_method=bool(service))
        print(json.dumps(levels, indent=2) if chosen == "json" else text)


@task(
    help={
        "env": ENV,
        "limit": "how many, newest last",
        "method": "only methods whose name contains this",
        "output": TEXT_OR_JSON,
    }
)
def emulator_journal(c: Context, env: str = "local", limit: int = 20, method: str = "", output: str = "text") -> None:
    """Print the latest calls that reached the emulator."""
    with readable_errors():
        from ops import emulator

        calls = _control(env).get("journal", {"limit": str(limit), "method": method})["calls"][::-1]
        chosen = printing.output_format(output, printing.TEXT_OR_JSON)
        print(json.dumps(calls, indent=2) if chosen == "json" else emulator.journal_text(calls))


def _control(env: str) -> Control:
    """The running emulator of an environment."""
    from ops.config import load_config
    from ops.control import running_control

    return running_control(load_config(env).emulator_state)
