"""What a report leaves out, and why."""

from __future__ import annotations

from elbax.report.content import Content
from elbax.report.markup import Html, join, tag
from elbax.report.sections.base import Section

__all__ = ["missing_section"]


def missing_section(content: Content) -> Section | None:
    """A line for everything that other runs show; `None` if nothing is left out."""
    said: list[Html | str] = []
    if content.scores is None:
        said.append(not_evaluated(content))
    if content.curves is None:
        said.append("Curves of training: no block of steps was completed.")
    if content.trained is None:
        said.append("Images, latent units and the graph: there is no checkpoint to read parameters from.")
    else:
        images = content.trained.images
        if images.prior_samples is None:
            said.append(
                "Images: they are shown for image data where the model has a method `decode` and one latent site."
            )
        elif images.reconstructions is None:
            said.append(
                "Reconstructions, interpolations and traversals: they are shown where the guide has a method `encode` "
                "and the latent site is real-valued."
            )
        elif images.traversals is None:
            said.append("Traversals: no unit of the latent site is active.")
        if not content.trained.units:
            said.append("KL per latent unit: no latent site has one row per datum.")
    return Section("missing", "Not in this report", (tag("ul", *(tag("li", s) for s in said)),)) if said else None


def not_evaluated(content: Content) -> Html | str:
    """Why there are no test figures."""
    if content.trained is None:
        return "Test figures: the run was not evaluated."
    command = tag("code", f"elbax evaluate {content.setup.folder}")
    return join(["Test figures: the run was not evaluated, as training did not come to an end. ", command, " does it."])
