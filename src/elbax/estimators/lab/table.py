"""A comparison of estimators as text and as figures for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from elbax.estimators.choose import describe

if TYPE_CHECKING:
    from elbax.estimators.lab.comparison import Comparison, Measurement

__all__ = ["as_dict", "text"]


def text(comparison: Comparison, width: int = 150) -> str:
    """One table per node, then what is best."""
    console = Console(width=width, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(f"gradient estimators for `{comparison.program}`; reference: {comparison.reference.about}")
        for site in comparison.sites:
            console.print(site_table(comparison, site))
        for (site, label), reason in comparison.refused.items():
            console.print(f"not possible: {label} for '{site}': {reason}")
        for line in conclusions(comparison):
            console.print(line)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def site_table(comparison: Comparison, site: str) -> Table:
    """The measurements of a node, best first."""
    table = Table(title=f"site '{site}'", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("estimator", overflow="fold", min_width=32)
    for name in ("bias", "variance", "SNR", "ms", "var x ms", "slope", "memory", "speed-up", ""):
        table.add_column(name, justify="left" if not name else "right")
    tied = comparison.tied(site)
    for row in comparison.of(site):
        table.add_row(row.label, *cells(row), verdict(row, tied))
    return table


def cells(row: Measurement) -> tuple[str, ...]:
    """The figures of a measurement, with 95 % intervals where they matter."""
    total = row.groups["all"]
    return (
        f"{100 * total.bias:+.1f} ± {196 * total.bias_error:.1f} %",
        f"{total.variance:.3g} ± {1.96 * total.variance_error:.1g}",
        f"{total.snr:.2g}",
        f"{1e3 * row.seconds:.3g} ± {1.96e3 * row.seconds_error:.1g}",
        f"{1e3 * row.work:.3g}",
        f"{row.slope:+.2f}",
        "" if row.memory is None else f"{row.memory / 2**10:.3g} KiB",
        f"{row.speedup:.1f}x",
    )


def verdict(row: Measurement, tied: tuple[Measurement, ...]) -> str:
    """What there is to say about a measurement."""
    if row.bias_seen:
        said = "biased" if not row.unbiased else "BIASED, though it says it is not"
        return f"{said} (z = {row.z:.1f})"
    if not row.unbiased:
        return "biased, not seen"
    if row in tied:
        return "best" if len(tied) == 1 else "tied for best"
    return ""


def conclusions(comparison: Comparison) -> list[str]:
    """The best assignment, and how it does."""
    said = ", ".join(f"{site}: {describe(e)}" for site, e in comparison.best.items())
    total = comparison.together.groups["all"]
    return [
        f"best together: {said}",
        f"    variance {total.variance:.3g} ± {1.96 * total.variance_error:.1g}, "
        f"{1e3 * comparison.together.seconds:.3g} ms, var x ms {1e3 * comparison.together.work:.3g}",
        "bias along the gradient, in percent of its norm, and variance of one gradient, with 95 % intervals; slope of "
        "log error against log draws (-0.5: consistent)",
    ]


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """All figures."""
    return {
        "program": comparison.program,
        "reference": comparison.reference.about,
        "rows": [_row(row, comparison.tied(row.site)) for row in comparison.rows],
        "best": {site: describe(e) for site, e in comparison.best.items()},
        "together": _row(comparison.together, ()),
        "refused": [{"site": s, "estimator": e, "reason": r} for (s, e), r in comparison.refused.items()],
    }


def _row(row: Measurement, tied: tuple[Measurement, ...]) -> dict[str, Any]:
    groups = {name: vars(group) for name, group in row.groups.items()}
    return {
        "site": row.site,
        "estimator": row.label,
        "unbiased": row.unbiased,
        "bias_seen": row.bias_seen,
        "z": row.z,
        "z_limit": row.z_limit,
        "groups": groups,
        "errors": [list(point) for point in row.errors],
        "slope": row.slope,
        "seconds": row.seconds,
        "seconds_error": row.seconds_error,
        "memory_bytes": row.memory,
        "speedup_16": row.speedup,
        "variance_times_seconds": row.work,
        "tied_for_best": row in tied,
        "num_draws": row.num_draws,
    }
