"""Discrete latents: sigmoid belief networks and the discrete VAE, with the gradient estimator as a field."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import jax

import elbax
from elbax.data import Dataset
from elbax.errors import ConfigError
from elbax.models.categorical_vae import make_categorical_vae
from elbax.models.recipe import option
from elbax.models.recipes.image import ImageRecipe, activation_option, num_option, sizes_option
from elbax.models.sbn import make_sbn

__all__ = ["BINARY", "CATEGORICAL", "DiscreteVAERecipe", "SBNRecipe", "named_estimator"]

Makers = Mapping[str, Callable[[Any], elbax.Estimator]]

# Estimators by name, each made from the number behind its colon. The first is the default; the rule needs no maker.
BINARY: Makers = MappingProxyType(
    {
        "double_cv": lambda draws: elbax.DoubleCV(_count(draws, 4)),
        "rodeo": lambda draws: elbax.RODEO(_count(draws, 2)),
        "disarm": lambda _: elbax.DisARM(),
        "rloo": lambda draws: elbax.RLOO(_count(draws, 4)),
        "reinmax": lambda tau: elbax.ReinMax(1.0 if tau is None else tau),
        "gumbel": lambda temperature: elbax.GumbelSoftmax(0.5 if temperature is None else temperature),
    }
)
CATEGORICAL: Makers = MappingProxyType(
    {
        "reinmax": BINARY["reinmax"],
        "gumbel": BINARY["gumbel"],
        "rloo": BINARY["rloo"],
        "disarm": lambda _: elbax.DisARMTree(),
    }
)
TAKE_NO_NUMBER = ("recommended", "auto", "disarm")


def named_estimator(text: str, makers: Makers) -> elbax.Estimator | None:
    """The estimator that a field names as `NAME` or `NAME:NUMBER`; `None` for the library's rule.

    Raises:
        ConfigError: for a name or number that is not possible.
    """
    name, colon, number = text.partition(":")
    known = ["recommended", "auto", *makers]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"It is one of {', '.join(known)}."
        raise ConfigError(f"estimator={text!r} is not possible for these latents. {hint}")
    if colon and name in TAKE_NO_NUMBER:
        raise ConfigError(f"estimator={text!r}: '{name}' takes no number; write estimator={name}.")
    if name == "auto":
        return None
    maker = next(iter(makers.values())) if name == "recommended" else makers[name]
    return maker(_number(text, number) if colon else None)


def _number(text: str, number: str) -> float:
    try:
        return float(number)
    except ValueError:
        raise ConfigError(f"estimator={text!r}: '{number}' is not a number.") from None


def _count(number: float | None, default: int) -> int:
    if number is None:
        return default
    if not number.is_integer():
        raise ConfigError(f"the number of draws of an estimator must be whole; got {number:g}.")
    return int(number)


@dataclasses.dataclass(frozen=True)
class SBNRecipe(ImageRecipe):
    """A sigmoid belief network for images: layers of binary latents, a learned prior, a guide from the bottom up.

    With the defaults and `mnist` this is the two-layer linear network of 200 units each of the papers on gradient
    estimators (Dong et al., 2020; Shi et al., 2022, who hold the prior fixed and train at a learning rate of 1e-4);
    `layers=200` with `hidden=200,200` is their nonlinear network. The estimator is Double CV with four draws: least
    variance for its time where costs are differentiable, and unbiased.
    """

    name: ClassVar[str] = "sbn"

    layers: tuple[int, ...] = sizes_option((200, 200), "sizes of the layers of latents, from the data upwards")
    hidden: tuple[int, ...] = sizes_option(
        (), "sizes of the hidden layers of each map; none makes the maps linear", empty=True
    )
    activation: str = activation_option("leaky_relu_0.3")
    learned_prior: bool = option(default=True, about="whether the topmost probabilities are learned, or 1/2")
    estimator: str = option("double_cv", f"auto, or {', '.join(BINARY)}, as NAME[:DRAWS or temperature]")

    def __post_init__(self) -> None:
        """Checks every field."""
        super().__post_init__()
        self.estimators()

    def build(self, data: Dataset, key: jax.Array) -> tuple[Callable, Callable]:
        """Networks for images of the size of the data."""
        mean = self.mean_image(data)
        return make_sbn(
            data.num_pixels,
            layers=self.layers,
            hidden=self.hidden,
            activation=self.activation,
            learned_prior=self.learned_prior,
            output_mean=mean.output,
            input_mean=mean.input,
            key=key,
        )

    def estimators(self) -> elbax.Estimator | None:
        """The one named, for every layer."""
        return named_estimator(self.estimator, BINARY)


@dataclasses.dataclass(frozen=True)
class DiscreteVAERecipe(ImageRecipe):
    """A VAE for images with one layer of discrete latents: binary, or one-hot where there are more categories.

    With the defaults and `mnist` this is the network of Shi et al. (2022), 784-200-200-200 with leaky units and a fixed
    uniform prior; they neither centre images nor start the output bias at the mean image. More categories take the
    same network with one-hot latents. By default the estimator is Double CV with four draws for binary latents
    (unbiased) and ReinMax for more categories (small bias, one evaluation).
    """

    name: ClassVar[str] = "discrete-vae"

    output_bias: bool = option(default=False, about="whether the output starts at the mean image")
    center: bool = option(default=False, about="whether the encoder sees images less the mean image")
    hidden: tuple[int, ...] = sizes_option((200, 200), "sizes of the encoder's hidden layers")
    num_variables: int = num_option(200, "latent variables")
    num_categories: int = option(2, "categories of each; two make it binary", lambda v: v >= 2, "2 or more")
    activation: str = activation_option("leaky_relu_0.3")
    estimator: str = option(
        "recommended",
        f"recommended (the first of these), auto, or NAME[:DRAWS or temperature]: {', '.join(BINARY)} if binary, "
        f"else {', '.join(CATEGORICAL)}",
    )

    def __post_init__(self) -> None:
        """Checks every field."""
        super().__post_init__()
        self.estimators()

    def build(self, data: Dataset, key: jax.Array) -> tuple[Callable, Callable]:
        """Networks for images of the size of the data."""
        mean = self.mean_image(data)
        shared: dict[str, Any] = {
            "hidden": self.hidden,
            "activation": self.activation,
            "output_mean": mean.output,
            "input_mean": mean.input,
            "key": key,
        }
        if self.num_categories == 2:
            return make_sbn(data.num_pixels, layers=(self.num_variables,), learned_prior=False, **shared)
        return make_categorical_vae(
            data.num_pixels, num_variables=self.num_variables, num_categories=self.num_categories, **shared
        )

    def estimators(self) -> elbax.Estimator | None:
        """The one named."""
        return named_estimator(self.estimator, BINARY if self.num_categories == 2 else CATEGORICAL)
