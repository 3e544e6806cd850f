"""What the model makes of images."""

from __future__ import annotations

from elbax.report.content import Content
from elbax.report.facts.images import Images, Interpolations, PriorSamples, Reconstructions, Traversals
from elbax.report.figures import images as draw
from elbax.report.markup import join, tag
from elbax.report.numbers import count, signed
from elbax.report.picture import Picture, picture
from elbax.report.sections.base import Section

__all__ = ["images_section"]


def images_section(content: Content) -> Section | None:
    """Reconstructions, prior samples, interpolations, traversals; `None` for a model that makes no images."""
    found = content.trained.images if content.trained is not None else Images(None, None, None, None)
    pictures = [
        None if found.reconstructions is None else reconstructions_picture(found.reconstructions),
        None if found.prior_samples is None else prior_picture(found.prior_samples),
        None if found.interpolations is None else interpolations_picture(found.interpolations),
        None if found.traversals is None else traversals_picture(found.traversals),
    ]
    shown = tuple(p for p in pictures if p is not None)
    if not shown:
        return None
    about = tag(
        "p",
        "Grey levels from 0 (black) to 1 (white). What the model makes is the mean of p(x | z), not a draw of it: "
        "single pixels of a draw would be noisier. Test data and codes were drawn with a key derived from the seed of "
        "the run, so that the same report can be made again; nothing was picked by hand.",
        class_="note",
    )
    return Section("images", "Images", (about, *(shown[i : i + 2] for i in range(0, len(shown), 2))))


def reconstructions_picture(images: Reconstructions) -> Picture:
    """Originals and reconstructions."""
    rows = "Rows: the datum as the model saw it; the mean of p(x | z) at the mean of q(z | x)."
    if images.originals is not None:
        rows = (
            "Rows: the datum as it is stored; as the model saw it, after binarisation; the mean of p(x | z) at the "
            "mean of q(z | x)."
        )
    return picture(
        "reconstructions",
        draw.reconstructions(images),
        "Sheet of test images and their reconstructions.",
        join(
            [
                tag("b", "Originals and reconstructions. "),
                f"{rows} Test data, drawn at random. Blurred strokes are what the code does not hold.",
            ]
        ),
    )


def prior_picture(images: PriorSamples) -> Picture:
    """Prior samples."""
    return picture(
        "prior-samples",
        draw.prior_samples(images),
        f"Sheet of {len(images.means)} images decoded from draws of the prior.",
        join(
            [
                tag("b", "Prior samples. "),
                f"The mean of p(x | z) for {count(len(images.means))} independent draws of z from the model's prior. "
                "Where these look worse than the reconstructions, codes of data leave parts of the prior unused.",
            ]
        ),
    )


def interpolations_picture(images: Interpolations) -> Picture:
    """Interpolations between data."""
    return picture(
        "interpolations",
        draw.interpolations(images),
        f"Sheet of {len(images.means)} rows of images that go from one test image to another.",
        join(
            [
                tag("b", "Interpolation between data. "),
                "Outer columns: pairs of test data drawn at random. Between them the mean of p(x | z) on the straight "
                "line from the posterior mean of the first (0%) to that of the second (100%), in equal steps.",
            ]
        ),
    )


def traversals_picture(images: Traversals) -> Picture:
    """Latent traversals."""
    first, last = signed(float(images.deviations[0]), 0), signed(float(images.deviations[-1]), 0)
    return picture(
        "traversals",
        draw.traversals(images),
        f"Sheet of {len(images.means)} rows of images, each with one latent unit moved from -3 to +3.",
        join(
            [
                tag("b", "Latent traversals. "),
                f"The {count(len(images.units))} active units with the largest KL, one per row. The unit is moved over "
                f"{first} to +{last} standard deviations of its prior; all others stay at the posterior mean of the "
                "first datum of the reconstructions. ▲ marks that datum's own value. The KL of the unit is its mean "
                "over test data.",
            ]
        ),
    )
