"""What each latent unit does."""

from __future__ import annotations

import itertools

from elbax.report.content import Content
from elbax.report.facts.units import Units
from elbax.report.figures.latents import units_figure
from elbax.report.markup import Html, join, table, tag
from elbax.report.numbers import count, plain
from elbax.report.picture import Picture, picture
from elbax.report.sections.base import Section

__all__ = ["latents_section"]

ROWS = 10


def latents_section(content: Content) -> Section | None:
    """KL and activity of the units of every latent site; `None` if no site has one row per datum."""
    sites = content.trained.units if content.trained is not None else ()
    if not sites:
        return None
    names = ["units"] if len(sites) == 1 else [f"units-{i + 1}" for i in range(len(sites))]
    rows = tuple((units_picture(u, name), units_table(u)) for u, name in zip(sites, names, strict=True))
    return Section("latents", "Latent units", rows)


def units_picture(units: Units, name: str) -> Picture:
    """KL and activity of the units of a site."""
    number = f"{count(units.num_active)} of {count(len(units.kl))} units of {units.site} are active"
    return picture(
        name,
        units_figure(units),
        f"Bar chart of the KL of each unit of {units.site}, and its activity. {number}.",
        join(
            [
                tag("b", "KL per latent unit. "),
                f"{number}, with a KL of {units.total:.2f} nats per datum in all. Above: KL(q || p) of each unit, mean "
                f"over {count(units.num_data)} test data, {'in closed form' if units.exact else 'estimated from draws'}"
                f". Below: the variance over data of the unit's posterior mean; a unit counts as active (blue) if it "
                f"exceeds {units.threshold:g} (Burda, Grosse & Salakhutdinov, 2016). An inactive unit holds its prior "
                "whatever the data: it costs nothing and says nothing. A unit just above the threshold with almost no "
                "KL is active by this convention only.",
            ]
        ),
    )


def units_table(units: Units) -> Html:
    """The units with the largest KL, in numbers."""
    total = max(units.total, 1e-12)
    shown = zip(units.names, units.kl, units.mean_variance, units.active, strict=True)
    rows = [
        (
            tag("span", f"unit {name}", class_="num"),
            f"{kl:.3f}",
            f"{kl / total:.0%}",
            plain(float(variance), 3),
            "yes" if active else "no",
        )
        for name, kl, variance, active in itertools.islice(shown, ROWS)
    ]
    head = (units.site, "KL, nats", "share", "variance of mean", "active")
    rest = len(units.kl) - len(rows)
    note = None
    if rest:
        note = tag(
            "p", f"The other {count(rest)} units have {units.kl[ROWS:].sum():.3f} nats per datum.", class_="note"
        )
    return join([table(rows, head=head), note])
