"""The bound and its parts over training."""

from __future__ import annotations

import numpy as np

from elbax.report.content import Content
from elbax.report.facts.curves import TRANSIENT, Curves
from elbax.report.figures.base import drawable
from elbax.report.figures.bounds import axis_floor, bounds
from elbax.report.figures.parts import parts
from elbax.report.markup import join, tag
from elbax.report.numbers import count, signed
from elbax.report.picture import Picture, picture
from elbax.report.sections.base import Part, Section

__all__ = ["training_section"]


def training_section(content: Content) -> Section | None:
    """Curves of the history; `None` if no block of steps was completed."""
    if content.curves is None:
        return None
    drawn: list[Part] = [bounds_picture(content, content.curves)]
    if content.curves.parts:
        drawn.append(parts_picture(content.curves))
    elif content.trained is not None and content.trained.num_particles > 1:
        drawn.append(
            tag(
                "p",
                f"With {count(content.trained.num_particles)} particles inside the logarithm the bound is no sum of a "
                "reconstruction and a KL part, so there are no parts to show over time. The KL at the end of training "
                "is given for each latent unit below.",
                class_="note",
            )
        )
    return Section("training", "Training", (tuple(drawn),))


def bounds_picture(content: Content, curves: Curves) -> Picture:
    """Training and validation bound over steps."""
    first, last = signed(curves.bound[0], 2), signed(curves.bound[-1], 2)
    alt = f"Line plot of the training bound over {count(int(curves.steps[-1]))} steps, from {first} to {last} nats."
    said = [
        tag("b", "Bound over training. "),
        f"{objective(content)} in nats per datum; higher is better. Training: mean over each block of "
        f"{count(curves.block)} steps, on training batches, while the parameters move; the band is ± 2 standard "
        "errors, from the spread of single steps. ",
    ]
    if len(curves.valid_steps):
        alt += f" The validation bound ends at {signed(curves.valid_bound[-1], 2)} nats."
        said.append(
            f"Validation: all {validation_size(content)}, with the same draws at every evaluation, so that differences "
            "between steps are those of the parameters; the ring marks the best, whose parameters were kept. "
        )
    said.append(left_out(curves))
    return picture("bound", bounds(curves), alt, join(said))


def objective(content: Content) -> str:
    """What was maximised, as the beginning of a sentence."""
    trained = content.trained
    if trained is None:
        return "The training objective"
    samples = f", mean of {count(trained.num_samples)} draws" if trained.num_samples > 1 else ""
    inside = f" with {count(trained.num_particles)} particles" if trained.num_particles > 1 else ""
    return f"{trained.bound}{inside}{samples},"


def validation_size(content: Content) -> str:
    """How many validation data there are."""
    return f"{count(content.data.sizes['valid'])} data" if "valid" in content.data.sizes else "validation data"


def left_out(curves: Curves) -> str:
    """What the axis of the bounds does not show."""
    floor = axis_floor(curves)
    below = 0 if floor is None else int((curves.bound < floor).sum())
    if not below:
        return "The axis shows every block."
    blocks = f"{count(below)} of {count(len(curves.steps))} blocks"
    lowest = signed(float(np.nanmin(drawable(curves.bound))), 2)
    return (
        f"The axis is fitted to what follows the first {TRANSIENT:.0%} of training and leaves out {blocks}, the lowest "
        f"at {lowest}."
    )


def parts_picture(curves: Curves) -> Picture:
    """The parts of the bound over steps."""
    names = "; ".join(f"{p.title}, at the end {signed(p.training[-1], 2)}" for p in curves.parts)
    return picture(
        "parts",
        parts(curves),
        f"Line plots of the parts of the bound over training, in nats per datum: {names}.",
        join(
            [
                tag("b", "Parts of the bound. "),
                "In nats per datum, each on its own axis; they add up to minus the bound. A KL that falls to zero "
                "while the reconstruction stalls is posterior collapse; a validation reconstruction that rises while "
                f"the training one falls is over-fitting. Axes are fitted to what follows the first {TRANSIENT:.0%} "
                "of training.",
            ]
        ),
    )
