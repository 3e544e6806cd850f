"""The head of the page: what was trained, how it ended, and the figures to remember."""

from __future__ import annotations

from elbax.diagnose.estimate import Estimate
from elbax.report.content import Content
from elbax.report.facts.scores import BracketFacts
from elbax.report.markup import Html, join, tag
from elbax.report.numbers import count, duration, signed, with_error
from elbax.report.sections.result import ends_of, range_of

__all__ = ["header", "heading"]


def heading(content: Content) -> str:
    """Recipe and data, as a title."""
    return f"{content.setup.recipe} on {content.data.name}"


def header(content: Content) -> Html:
    """Title, one line of facts, the outcome with its advice, and the cards."""
    return join(
        [
            tag("p", "elbax report · ", content.setup.folder, class_="eyebrow"),
            tag("h1", heading(content)),
            tag("p", content.setup.about, class_="lead") if content.setup.about else None,
            tag("p", " · ".join(facts(content)), class_="note"),
            outcome(content),
            cards(content),
        ]
    )


def facts(content: Content) -> list[str]:
    """Steps, time, device, parameters, seed."""
    status, trained = content.status, content.trained
    said = [f"{count(status.steps)} steps"]
    if status.seconds is not None:
        said.append(f"{duration(status.seconds)} on {content.setup.machine.get('device', 'a device not recorded')}")
    if trained is not None:
        said.append(f"{count(sum(trained.parameters.values()))} parameters")
    return [*said, f"seed {content.setup.seed}"]


def outcome(content: Content) -> Html:
    """How the run ended, and what to do about it."""
    status = content.status
    described = None
    if status.described_step is not None and status.described_step != status.steps:
        described = tag(
            "p",
            f"This page describes the parameters of step {count(status.described_step)}, those of the best validation "
            "that was saved.",
        )
    headline = tag("strong", status.headline)
    after = f" after {count(status.steps)} steps" if status.steps else ""
    return tag("div", headline, after, tag("p", status.advice), described, class_=f"outcome {status.tone}")


def cards(content: Content) -> Html | None:
    """The figures to remember: both bounds, the distance between them, and how many units are in use."""
    found: list[Html] = []
    if content.scores is not None:
        s = content.scores
        found += [
            card("ELBO", s.elbo, s.elbo_bits, f"Evidence lower bound, mean over {count(s.num_data)} test data."),
            card(
                f"IWAE bound, {count(s.num_particles)} particles",
                s.iwae,
                s.iwae_bits,
                "The tighter, importance-weighted lower bound on log p(x), from the same draws.",
            ),
        ]
        found.append(
            card("Distance of the two", s.gap, None, "On average, the ELBO falls at least this far short of log p(x).")
            if s.bracket is None
            else bracket_card(s.bracket)
        )
    found += unit_cards(content)
    return tag("ul", *found, class_="cards") if found else None


def bracket_card(bracket: BracketFacts) -> Html:
    """Log p(x) from both sides."""
    low, high = bracket.short
    low_end, high_end = ends_of(bracket.lower, bracket.upper)
    return tag(
        "li",
        tag("div", "log p(x)", class_="name"),
        tag("div", low_end, tag("span", " to ", high_end, class_="error"), class_="value"),
        tag("div", f"nats per datum, {bracket.confidence:.0%} confidence", class_="unit"),
        tag(
            "div",
            f"Mean over the first {count(bracket.num_data)} test data, from both sides. The ELBO falls short by ",
            range_of(low, high),
            " there.",
            class_="about",
        ),
    )


def unit_cards(content: Content) -> list[Html]:
    """One card per latent site: how many of its units are active."""
    found = []
    for units in content.trained.units[:3] if content.trained is not None else ():
        found.append(
            tag(
                "li",
                tag("div", "Active units of ", units.site, class_="name"),
                tag("div", count(units.num_active), tag("span", f" of {count(len(units.kl))}", class_="error"),
                    class_="value"),
                tag("div", f"KL to the prior {signed(units.total, 2)} nats per datum", class_="unit"),
                tag("div", "A unit is active if the data move its posterior mean.", class_="about"),
            )
        )  # fmt: skip
    return found


def card(name: str, figure: Estimate, bits: Estimate | None, about: str) -> Html:
    """A figure with its standard error and unit, also in bits per dimension."""
    value, error = with_error(figure)
    second = None
    if bits is not None:
        unit = bits.unit.replace("bits per dimension", "bits/dim")
        second = tag("div", " ± ".join(with_error(bits)), f" {unit}", class_="unit num")
    return tag(
        "li",
        tag("div", name, class_="name"),
        tag("div", tag("data", value, value=repr(figure.value)), tag("span", f" ± {error}", class_="error"),
            class_="value"),
        tag("div", figure.unit, class_="unit"),
        second,
        tag("div", about, class_="about"),
    )  # fmt: skip
