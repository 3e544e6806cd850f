"""The command line: one application, one module per command, errors as one paragraph."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from elbax.errors import ConfigError, DataError, ElbaxError, NonFiniteError, RunError

__all__ = ["EXIT_CODES", "app", "console", "fail", "main", "say"]

# What a script can rely on; documented in docs/cli.md.
EXIT_CODES: dict[type[ElbaxError], int] = {ConfigError: 2, DataError: 3, RunError: 4, NonFiniteError: 5}
PROGRAM_CODE, DIVERGED_CODE, INTERRUPTED_CODE = 6, 5, 130

app = typer.Typer(
    name="elbax",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Variational inference with bounds that can be trusted: train, evaluate, report.",
)
console = Console(soft_wrap=True, highlight=False)
_options = {"debug": False, "json": False}


@app.callback()
def common(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results as JSON, for machines.")] = False,
) -> None:
    """Options of all commands; they stand before the command."""
    _options.update(debug=debug, json=as_json)


def say(text: str, data: Any) -> None:
    """Prints a result: text for people, or the data as JSON."""
    if _options["json"]:
        sys.stdout.write(json.dumps(data) + "\n")
    else:
        console.print(text, markup=False)


def wants_json() -> bool:
    """Whether the user asked for JSON."""
    return _options["json"]


def fail(error: ElbaxError) -> int:
    """Prints an error on stderr and returns its exit code."""
    kind = next((code for cls, code in EXIT_CODES.items() if isinstance(error, cls)), PROGRAM_CODE)
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"elbax: {error}", markup=False, style="red")
    return kind


def main() -> None:
    """Entry point of the `elbax` command."""
    try:
        app()
    except ElbaxError as error:
        if _options["debug"]:
            raise
        sys.exit(fail(error))
    except KeyboardInterrupt:
        sys.stderr.write("elbax: interrupted\n")
        sys.exit(INTERRUPTED_CODE)
