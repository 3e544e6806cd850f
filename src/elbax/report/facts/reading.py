"""Reading a run folder for a report: all of it where it can be opened, else what lies there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elbax.errors import RunError
from elbax.fit.result import Row
from elbax.models.recipe import Recipe
from elbax.models.targets import recipe_of
from elbax.runs.folder import RunFolder
from elbax.runs.run import Run, open_run

__all__ = ["Reading", "number", "read_run", "required"]


@dataclass(frozen=True)
class Reading:
    """A run folder as it was read.

    Attributes:
        folder: the folder.
        config: its `config.toml`.
        recipe: with the fields of the run.
        history: one row per block of steps, from the metrics or the checkpoint, whichever goes further.
        result: its `result.json`; empty if the run has not ended.
        run: the run with its parameters, or `None` if there is no checkpoint yet.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    recipe: Recipe
    history: tuple[Row, ...]
    result: Mapping[str, Any]
    run: Run | None

    @property
    def last_step(self) -> int:
        """The last step that is recorded, 0 if there is none."""
        return max(self.history[-1].step if self.history else 0, self.run.step if self.run else 0)


def read_run(path: str | Path) -> Reading:
    """Reads a run folder, also of a run that has been killed or is still going on.

    Raises:
        RunError: if there is no run, or one of its files is damaged.
        DataError, ConfigError: if its data or its recipe are no longer where they were.
    """
    folder = RunFolder(path)
    config = folder.read_config()
    result = folder.read_result()
    if not isinstance(result, Mapping):
        raise RunError(damaged(folder.result_path, "it is not a table of figures"))
    rows = read_rows(folder)
    if folder.checkpoints.latest() is None:
        recipe = recipe_of(required(config, "recipe", folder.config_path)).from_dict(config.get("options", {}))
        return Reading(folder, config, recipe, rows, result, None)
    run = open_run(path)
    reached = run.history[-1].step if run.history else 0
    longer = rows if rows and rows[-1].step > reached else run.history
    return Reading(folder, config, run.recipe, longer, result, run)


def read_rows(folder: RunFolder) -> tuple[Row, ...]:
    """The rows of `metrics.jsonl`."""
    try:
        rows = tuple(Row(**row) for row in folder.read_metrics())
    except (TypeError, UnicodeDecodeError) as error:
        raise RunError(damaged(folder.metrics_path, str(error))) from error
    for i, row in enumerate(rows):
        for name in ("step", "bound", "std_error"):
            number(vars(row), name, folder.metrics_path, f"line {i + 1}: ")
        if not isinstance(row.costs, Mapping) or not isinstance(row.valid_costs, Mapping):
            raise RunError(damaged(folder.metrics_path, f"line {i + 1}: costs are no table"))
    return rows


def required(table: Any, name: str, path: Path) -> Any:
    """An entry of a file of the run, which a dot in the name looks for in a table inside.

    Raises:
        RunError: if the entry is not there; the message names the file.
    """
    for part in name.split("."):
        if not isinstance(table, Mapping) or part not in table:
            raise RunError(damaged(path, f"it has no '{name}'"))
        table = table[part]
    return table


def number(table: Any, name: str, path: Path, where: str = "") -> float:
    """A number of a file of the run.

    Raises:
        RunError: if it is not there or is no number; the message names the file.
    """
    value = required(table, name, path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RunError(damaged(path, f"{where}'{name}' is no number: {value!r}"))
    return value


def damaged(path: Path, what: str) -> str:
    """An error message about a file of the run."""
    return f"'{path}' is damaged ({what}). Restore it, or continue the run in this folder with --resume."
