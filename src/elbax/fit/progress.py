"""A progress bar on a terminal; silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from elbax.fit.result import Row

__all__ = ["Progress", "progress_bar"]


class Progress(Protocol):
    """Hears of every block."""

    def __call__(self, row: Row, steps_per_second: float) -> None:
        """A block is done."""


@contextmanager
def progress_bar(done: int, max_steps: int, *, show: bool | None) -> Iterator[Progress]:
    """A bar with the bound, the speed and the time left.

    Args:
        done: steps already done.
        max_steps: steps in all.
        show: `None` to show it only if stderr is a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda row, steps_per_second: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("fit"),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[bound]}"),
        progress.TextColumn("{task.fields[speed]}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task("fit", total=max_steps, completed=done, bound="compiling", speed="")

        def update(row: Row, steps_per_second: float) -> None:
            bound = f"bound {row.bound:.2f} ± {row.std_error:.2f}"
            if row.valid_bound is not None:
                bound += f", validation {row.valid_bound:.2f}"
            bar.update(task, completed=row.step, bound=bound, speed=f"{steps_per_second:.0f} steps/s")

        yield update
