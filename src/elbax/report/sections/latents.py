"""What each latent unit does."""

from __future__ import annotations

import itertools
import math

from elbax.report.content import Content
from elbax.report.facts.told import Told
from elbax.report.facts.units import Units
from elbax.report.figures.latents import units_figure
from elbax.report.markup import Html, join, table, tag
from elbax.report.numbers import count, plain, signed
from elbax.report.picture import Picture, picture
from elbax.report.sections.base import Section, figure_with_error

__all__ = ["latents_section"]

ROWS = 10


def latents_section(content: Content) -> Section | None:
    """KL and activity of the units of every latent site; `None` if no site has one row per datum."""
    sites = content.trained.units if content.trained is not None else ()
    if not sites and not content.told:
        return None
    names = ["units"] if len(sites) == 1 else [f"units-{i + 1}" for i in range(len(sites))]
    rows = tuple((units_picture(u, name), units_table(u)) for u, name in zip(sites, names, strict=True))
    first = () if not content.told else (told_table(content.told),)
    return Section("latents", "Latents", (*first, *rows))


def told_table(layers: tuple[Told, ...]) -> Html:
    """What each site tells of the data, with the verdict and the cure."""
    rows = [
        (
            layer.site,
            figure_with_error(layer.kl),
            figure_with_error(layer.information),
            figure_with_error(layer.aggregate),
            f"{count(layer.used)} of {count(layer.units)}",
            layer.verdict,
        )
        for layer in layers
    ]
    head = ("site", "KL(q || p)", "information I_q", "KL(q(z) || p)", "units used", "verdict")
    about = (
        "Nats per datum, on test data. KL(q || p) is information about the data plus the distance of all codes "
        "together from the prior. A unit is used if it tells more than 0.01 nats of the data, two standard errors away."
    )
    advice = [tag("p", tag("b", f"{layer.site}: "), layer.advice) for layer in layers if layer.advice]
    return join([table(rows, head=head, class_="stack"), tag("p", about, class_="note"), *advice])


def units_picture(units: Units, name: str) -> Picture:
    """KL and activity of the units of a site."""
    number = f"{count(units.num_active)} of {count(len(units.kl))} units of {units.site} are active"
    how = "in closed form" if units.exact else "estimated from draws"
    said = (
        f"{number}, with a KL of {signed(units.total, 2)} nats per datum in all. Above: KL(q || p) of each unit, mean "
        f"over {count(units.num_data)} test data, {how}. Below: the variance over data of the unit's posterior mean; a "
        f"unit counts as active (blue) if it exceeds {units.threshold:g} (Burda, Grosse & Salakhutdinov, 2016). An "
        "inactive unit holds its prior whatever the data: it costs nothing and says nothing. A unit just above the "
        "threshold with almost no KL is active by this convention only."
    )
    alt = f"Bar chart of the KL of each unit of {units.site}, and its activity. {number}."
    return picture(name, units_figure(units), alt, join([tag("b", "KL per latent unit. "), said]))


def units_table(units: Units) -> Html:
    """The units with the largest KL, in numbers."""
    shown = zip(units.names, units.kl, units.mean_variance, units.active, strict=True)
    rows = [
        (
            tag("span", f"unit {name}", class_="num"),
            signed(kl, 3),
            share(kl, units.total),
            plain(float(variance), 3),
            "yes" if active else "no",
        )
        for name, kl, variance, active in itertools.islice(shown, ROWS)
    ]
    listed = table(rows, head=(units.site, "KL, nats", "share", "variance of mean", "active"))
    rest = units.kl[ROWS:]
    if not len(rest):
        return listed
    said = f"The other {count(len(rest))} units have {signed(float(rest.sum()), 3)} nats per datum."
    return join([listed, tag("p", said, class_="note")])


def share(part: float, total: float) -> str:
    """A part in per cent, or nothing where that makes no sense."""
    return f"{part / total:.0%}" if math.isfinite(total) and total > 0 else ""
