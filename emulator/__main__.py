"""python -m emulator: `serve` runs an emulator, `setup` makes what it needs once."""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import os
import sys
from pathlib import Path

from emulator.settings import Settings, parse_image_table


def main(arguments: list[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    return int(parsed.run(parsed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emulator", description="A local Google Cloud.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run an emulator; a line with `ready` says that it answers")
    serve.add_argument("--state", type=Path, default=Path(os.environ.get("SELFLOOP_STATE", ".selfloop")))
    serve.add_argument("--host", default="127.0.0.1", help="another address than loopback opens it to the network")
    serve.add_argument("--port", type=int, default=None, help="0 picks a free one (default: SELFLOOP_PORT or 0)")
    serve.add_argument("--project", default=os.environ.get("SELFLOOP_PROJECT", Settings.project))
    serve.add_argument("--location", default=Settings.location)
    serve.add_argument("--sandbox", choices=("full", "none"), default=os.environ.get("SELFLOOP_SANDBOX") or None)
    serve.add_argument("--egress", default=",".join(Settings.egress), help="comma-separated hosts; package-index")
    serve.add_argument("--no-egress", action="store_const", const="", dest="egress", help="let nothing out")
    serve.add_argument("--images", choices=("nearest", "exact"), default=Settings.images)
    serve.add_argument("--image-table", default="{}", help="JSON: image -> what stands in for it")
    serve.set_defaults(run=_serve)

    isolated = commands.add_parser("isolated", help="run a command in a network in which there is only the emulator")
    isolated.add_argument("--port", type=int, required=True, help="of the running emulator")
    isolated.add_argument("command", nargs=argparse.REMAINDER)
    isolated.set_defaults(run=_isolated)

    coverage = commands.add_parser("coverage", help="write the coverage tables in the services' READMEs")
    coverage.set_defaults(run=_coverage)

    setup = commands.add_parser("setup", help="generate the API tables and the environments of prebuilt images")
    setup.add_argument("--stubs", action="store_true", help="also the type stubs that mypy reads")
    setup.add_argument(
        "--environment", action="append", default=[], metavar="NAME",
        help="one of emulator/runners/images.toml to make besides, so that its images run with no network",
    )  # fmt: skip
    setup.set_defaults(run=_setup)
    return parser


def _serve(parsed: argparse.Namespace) -> int:
    from emulator.core import generate

    if parsed.sandbox not in (None, "full", "none"):
        return _fail(f"SELFLOOP_SANDBOX is {parsed.sandbox!r}: full or none")
    # The variable last: after a restore it names the port that clients know.
    port = os.environ.get("SELFLOOP_PORT") or parsed.port or 0
    try:
        image_table = parse_image_table(parsed.image_table)
    except ValueError as error:
        return _fail(f"--image-table: {error}")
    try:
        settings = Settings(
            state=parsed.state.absolute(),
            port=int(port),
            host=parsed.host,
            project=parsed.project,
            location=parsed.location,
            sandbox=parsed.sandbox,
            egress=tuple(filter(None, parsed.egress.split(","))),
            images=parsed.images,
            image_table=image_table,
        )
    except ValueError:
        return _fail(f"SELFLOOP_PORT is {port!r}, no number")
    if not generate.is_current():
        generate.generate(stubs=generate.has_stubs())
    from emulator.app import CannotStartError, serve

    _log_to(settings.state / "emulator.log")
    try:
        serve(settings, lambda address: print(f"ready {address}", flush=True))
    except CannotStartError as error:
        return _fail(str(error))
    return 0


def _isolated(parsed: argparse.Namespace) -> int:
    from emulator.runners import isolated

    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if not command:
        return _fail("isolated: name a command behind --")
    try:
        return isolated.run(command, parsed.port, os.environ)
    except isolated.IsolationError as error:
        return _fail(str(error))


def _coverage(_: argparse.Namespace) -> int:
    import tempfile

    from emulator.app import Emulator
    from emulator.core import coverage

    with tempfile.TemporaryDirectory() as folder:
        emulator = Emulator(Settings(state=Path(folder) / "state"))
        tables = emulator.coverage_tables()
        emulator.close()
    for readme, table in tables.items():
        readme.write_text(coverage.with_table(readme.read_text() if readme.exists() else "", table))
    return 0


def _setup(parsed: argparse.Namespace) -> int:
    from emulator.core import generate

    if not generate.is_current() or (parsed.stubs and not generate.has_stubs()):
        print("reading the APIs out of Google's packages", file=sys.stderr)
        generate.generate(stubs=parsed.stubs)
    from emulator.runners import environments

    environments.prepare(parsed.environment, lambda sentence: print(sentence, file=sys.stderr))
    return 0


def _log_to(path: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=10_000_000, backupCount=2, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
