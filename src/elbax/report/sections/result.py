"""The figures of a run with what they were computed on, and how far they can be trusted."""

from __future__ import annotations

import math

from elbax.diagnose.estimate import Estimate
from elbax.report.content import Content
from elbax.report.facts.scores import Scores
from elbax.report.markup import Html, join, table, tag
from elbax.report.numbers import count, plain, signed
from elbax.report.sections.base import Section, figure_with_error

__all__ = ["result_section"]


def result_section(content: Content) -> Section | None:
    """All figures of the result; `None` if the run was not evaluated."""
    if content.scores is None:
        return None
    parts = (
        figures_table(content, content.scores),
        tag("h3", "How far to trust these figures"),
        tag("ul", *(tag("li", sentence) for sentence in caveats(content, content.scores))),
    )
    return Section("result", "Result", parts)


def figures_table(content: Content, scores: Scores) -> Html:
    """Training, validation and test figures below each other."""
    trained = content.trained
    objective = "training objective" if trained is None else objective_text(trained.bound, trained.num_particles)
    rows = []
    if scores.training is not None:
        blocks = f", last {count(content.curves.block)} steps" if content.curves is not None else ""
        rows.append(("Training", objective, figure_with_error(scores.training), f"training batches{blocks}"))
    if scores.validation is not None:
        number = content.data.sizes.get("valid")
        about = f"{count(number)} validation data" if number else "validation data"
        step = f", step {count(scores.step)}" if scores.step is not None else ""
        value = tag("data", signed(scores.validation, 2), value=repr(scores.validation))
        rows.append(("Validation", objective, tag("span", value, class_="num"), f"{about}{step}"))
    on_test = f"{evaluated_data(content, scores)}, {count(scores.num_particles)} draws each"
    rows += [
        ("Test", "ELBO", in_both_units(scores.elbo, scores.elbo_bits), on_test),
        ("Test", iwae_name(scores), in_both_units(scores.iwae, scores.iwae_bits), on_test),
        ("Test", "distance of the two", figure_with_error(scores.gap), f"{on_test}, the same for both"),
    ]
    if (bracket := scores.bracket) is not None:
        share = f"{bracket.confidence:.0%} confidence, first {count(bracket.num_data)} test data"
        rows += [
            ("Test", "log p(x), from both sides", range_of(bracket.lower, bracket.upper), share),
            ("Test", "log p(x) less the ELBO", range_of(*bracket.short), f"the same {count(bracket.num_data)} data"),
        ]
    return table(rows, head=("Data", "Figure", "Nats per datum", "Computed on"), class_="stack")


def ends_of(low: float, high: float) -> tuple[Html, Html]:
    """The ends of a range, with as many digits as tell them apart."""
    digits = max(2, 1 - math.floor(math.log10(max(high - low, 1e-4))))
    lower, upper = (tag("data", signed(end, digits), value=repr(end)) for end in (low, high))
    return lower, upper


def range_of(low: float, high: float) -> Html:
    """A range from one end to the other."""
    lower, upper = ends_of(low, high)
    return tag("span", lower, " to ", upper, class_="num")


def in_both_units(figure: Estimate, bits: Estimate | None) -> Html:
    """A figure in nats, and in bits per dimension below."""
    if bits is None:
        return figure_with_error(figure)
    return join(
        [figure_with_error(figure), tag("br"), tag("span", figure_with_error(bits), " bits/dim", class_="note")]
    )


def objective_text(bound: str, num_particles: int) -> str:
    """The bound that was trained on, as the table names it."""
    return bound if num_particles == 1 else f"{bound}, {count(num_particles)} particles"


def iwae_name(scores: Scores) -> str:
    """The many-particle bound, as the table names it."""
    return f"IWAE, {count(scores.num_particles)} particles"


def evaluated_data(content: Content, scores: Scores) -> str:
    """Which test data were evaluated."""
    number, evaluated = content.data.sizes.get("test"), count(scores.num_data)
    if number is None:
        return f"{evaluated} test data"
    return (
        f"all {evaluated} test data" if number == scores.num_data else f"first {evaluated} of {count(number)} test data"
    )


def caveats(content: Content, scores: Scores) -> list[Html | str]:
    """What a reader has to know to use the figures."""
    said: list[Html | str] = [
        "± is one standard error of the mean over test data: how far another test set of this size would move it. "
        "What another seed would change is not in it.",
        "Both bounds use the same draws, so their distance is known better than either of them.",
        f"The bound with {count(scores.num_particles)} particles is itself a lower bound, in expectation. The weights "
        f"of a datum are worth {plain(scores.ess_median, 2)} equal draws (median over data; smallest "
        f"{plain(scores.ess_min, 2)}).",
    ]
    if scores.few_particles:
        command = f"elbax evaluate {content.setup.folder} --particles {50 * scores.num_particles}"
        said.append(
            join(
                [
                    "For some data that is little: log p(x) may lie well above this bound there, and the standard "
                    "error does not show it. More particles tell: ",
                    tag("code", command),
                ]
            )
        )
    if scores.bracket is not None:
        said.append(f"log p(x) from both sides rests on {scores.bracket.basis}.")
        if not scores.bracket.met:
            said.append("Its two sides are further apart than asked for: more temperatures bring them together.")
    if scores.no_bracket is not None:
        said.append(f"There is no bracket on log p(x): {scores.no_bracket}")
    if scores.validation is not None:
        said.append(
            "The validation bound chose the parameters and is therefore slightly optimistic. It uses the same draws at "
            "every evaluation: compare it between steps rather than with other bounds, as its own sampling error is "
            "not recorded."
        )
    if content.data.binarisation:
        said.append(f"Binarisation {content.data.binarisation} Compare with figures of the same binarisation only.")
    if content.status.stale and scores.step is not None:
        said.append(f"These figures are of step {count(scores.step)}; training has gone on since.")
    return said
