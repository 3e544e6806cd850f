"""The folder of a run, and the files in it.

    config.toml      everything needed to repeat the run
    metrics.jsonl    one line per block of steps
    result.json      final figures with standard errors and units, outcome
    checkpoints/     the whole state, for resuming
    figures/         PNG and SVG
    report.html      one self-contained page

Every file is written atomically; `metrics.jsonl` is appended to, and cut back to the checkpoint on a resume.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elbax.errors import RunError
from elbax.fit.checkpoint import Checkpoints, write_atomically

__all__ = ["RunFolder"]


class RunFolder:
    """A run folder; makes nothing until it is asked to.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def config_path(self) -> Path:
        """`config.toml`."""
        return self.path / "config.toml"

    @property
    def metrics_path(self) -> Path:
        """`metrics.jsonl`."""
        return self.path / "metrics.jsonl"

    @property
    def result_path(self) -> Path:
        """`result.json`."""
        return self.path / "result.json"

    @property
    def report_path(self) -> Path:
        """`report.html`."""
        return self.path / "report.html"

    @property
    def figures_path(self) -> Path:
        """`figures/`."""
        return self.path / "figures"

    @property
    def checkpoints(self) -> Checkpoints:
        """`checkpoints/`."""
        return Checkpoints(self.path / "checkpoints")

    @property
    def exists(self) -> bool:
        """Whether a run has been started here."""
        return self.config_path.is_file()

    def create(self, config: Mapping[str, Any]) -> None:
        """Starts a run.

        Raises:
            RunError: if the folder exists and is not empty, or cannot be made.
        """
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunError(
                f"'{self.path}' exists already. Choose another --out, continue the run in it with --resume, or "
                "remove it."
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"run folder '{self.path}' cannot be made ({error.strerror or error}).") from error
        self.write_config(config)

    # ------------------------------------------------------------------------------------- files

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes `config.toml`."""
        write_atomically(self.config_path, toml_text(config).encode())

    def read_config(self) -> dict[str, Any]:
        """Reads `config.toml`.

        Raises:
            RunError: if there is no run here, or its configuration is damaged.
        """
        if not self.exists:
            what = "is not a run folder (it has no config.toml)" if self.path.is_dir() else "does not exist"
            raise RunError(f"'{self.path}' {what}. Name the folder that `elbax fit --out` was given.")
        try:
            return tomllib.loads(self.config_path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"'{self.config_path}' is damaged ({error}). Restore it, or start the run again.") from error

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Adds a line to `metrics.jsonl`."""
        try:
            with open(self.metrics_path, "a", encoding="utf-8") as f:
                f.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RunError(
                f"'{self.metrics_path}' could not be written ({error.strerror or error}). The last checkpoint is safe: "
                "free some space, then continue with --resume."
            ) from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; a last line that a crash has cut short is left out.

        Raises:
            RunError: if another line is damaged.
        """
        if not self.metrics_path.is_file():
            return []
        rows = []
        *lines, _cut = self.metrics_path.read_bytes().split(b"\n")  # what follows the last line's end was cut short
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise RunError(
                    f"'{self.metrics_path}' is damaged (line {number}). Cut it off before that line, or start the run "
                    "again; the checkpoints have the history too and continue with --resume."
                )
            rows.append(row)
        return rows

    def cut_metrics(self, step: int) -> None:
        """Drops the lines after a step, which a resumed run will write again."""
        kept = [row for row in self.read_metrics() if row["step"] <= step]
        write_atomically(self.metrics_path, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes `result.json`."""
        write_atomically(self.result_path, (json.dumps(result, indent=2) + "\n").encode())

    def read_result(self) -> dict[str, Any]:
        """Reads `result.json`; empty if the run has not ended yet."""
        if not self.result_path.is_file():
            return {}
        try:
            result = json.loads(self.result_path.read_bytes())
        except ValueError:
            result = None
        if not isinstance(result, dict):
            raise RunError(
                f"'{self.result_path}' is damaged. Remove it; continuing the run with --resume writes it again."
            )
        return result

    def drop_result(self) -> None:
        """Removes `result.json`, which a resumed run will write anew."""
        self.result_path.unlink(missing_ok=True)


def toml_text(config: Mapping[str, Any]) -> str:
    """TOML for a mapping of plain values and of tables (one level); JSON's scalars and lists are TOML's."""
    lines = [f"{key} = {_toml_value(v)}" for key, v in config.items() if not isinstance(v, Mapping)]
    for name, table in config.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{name}]", *(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
