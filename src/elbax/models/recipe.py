"""Recipes: named defaults that train to a known number, as frozen dataclasses.

A recipe is all that distinguishes one training run from another. Its fields are set on the command line
(`--set field=value`), checked before any work is done, and stored with the run, so that the run can be repeated and
its model rebuilt.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import optax

from elbax.errors import ConfigError

__all__ = ["Recipe", "option"]


def option(default: Any, about: str, check: Callable[[Any], bool] = lambda value: True, needs: str = "") -> Any:
    """A field of a recipe.

    Args:
        default: its value unless set.
        about: what it is, in a few words.
        check: whether a value is allowed.
        needs: what is allowed, in words, for errors.
    """
    return dataclasses.field(default=default, metadata={"about": about, "check": check, "needs": needs})


def positive(value: Any) -> bool:
    """Whether a number is above zero."""
    return value > 0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Base of all recipes: what every training run has.

    A subclass adds fields, sets `name`, and says in `build`, `bound` and `prepare` what is trained and on what.
    """

    name: ClassVar[str] = ""

    seed: int = option(0, "seed of the run: weights, order of the data, draws", lambda v: v >= 0, "0 or more")
    batch_size: int = option(100, "data per step", positive, "at least 1")
    learning_rate: float = option(1e-3, "of Adam", positive, "above 0")
    schedule: str = option(
        "constant",
        "of the learning rate: constant, or cosine decay to zero over max_steps",
        lambda v: v in ("constant", "cosine"),
        "constant or cosine",
    )
    clip_norm: float = option(0.0, "largest norm of a gradient; 0 does not clip", lambda v: v >= 0, "0 or more")
    max_steps: int = option(100_000, "upper limit on steps", positive, "at least 1")
    early_stopping: bool = option(default=True, about="whether to stop when the bound no longer improves")
    num_samples: int = option(1, "draws averaged outside the logarithm", positive, "at least 1")
    num_particles: int = option(1, "draws inside the logarithm (IWAE); 1 is the ELBO", positive, "at least 1")
    log_every: int = option(100, "steps per row of the history", positive, "at least 1")
    validate_every: int = option(500, "steps between validations, a multiple of log_every", positive, "at least 1")
    checkpoint_every: int = option(1000, "steps between checkpoints, a multiple of log_every", positive, "at least 1")
    eval_particles: int = option(100, "particles of the importance bound at the end", positive, "at least 1")
    eval_data: int = option(1000, "test data for the figures at the end", positive, "at least 1")
    bracket_data: int = option(64, "test data for the bracket on log p(x); 0 for none", lambda v: v >= 0, "0 or more")

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
            ConfigError: for a value of the wrong type or out of range.
        """
        types_of = typing.get_type_hints(type(self))
        for f in dataclasses.fields(self):
            value = _converted(f.name, getattr(self, f.name), types_of[f.name])
            object.__setattr__(self, f.name, value)
            if not f.metadata.get("check", lambda v: True)(value):
                raise ConfigError(f"{f.name}={value!r} is not possible: it must be {f.metadata['needs']}.")
        for name in ("validate_every", "checkpoint_every"):
            if getattr(self, name) % self.log_every:
                raise ConfigError(f"{name}={getattr(self, name)} must be a multiple of log_every={self.log_every}.")

    # ------------------------------------------------------------------------------------- what a subclass says

    def build(self, data: Any, key: jax.Array) -> tuple[Callable, Callable]:
        """The model and the guide before training."""
        raise NotImplementedError

    def bound(self, model: Callable, guide: Callable) -> Any:
        """What is maximised."""
        raise NotImplementedError

    def estimators(self) -> Any:
        """The gradient estimators of the sites, `None` for the rule."""
        return None

    def prepared(self, data: Any) -> Any:
        """The data set as it is kept on the device."""
        return data

    def prepare(self, data: Any) -> Callable | None:
        """What is done to a batch inside the compiled step: `(key, batch) -> batch`."""
        return None

    def seen(self, data: Any, split: str, count: int) -> Any:
        """The first data of a split as the model sees them, the same at every call."""
        return getattr(data, split)[:count]

    # ------------------------------------------------------------------------------------- what every recipe has

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with the schedule and clipping that the fields ask for."""
        rate: Any = self.learning_rate
        if self.schedule == "cosine":
            rate = optax.cosine_decay_schedule(self.learning_rate, self.max_steps)
        adam = optax.adam(rate)
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), adam) if self.clip_norm else adam

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, for a file."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """A recipe with some fields set."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
                near += [k for k in known if "".join(word[0] for word in k.split("_")) == name]
                hint = f"Did you mean {' or '.join(near)}?" if near else f"Its fields are {', '.join(known)}."
                raise ConfigError(f"recipe '{cls.name}' has no field '{name}'. {hint}")
        return cls(**fields)

    @classmethod
    def from_settings(cls, settings: Sequence[str], base: Mapping[str, Any] | None = None) -> Recipe:
        """A recipe from texts `field=value`, as on the command line."""
        fields = dict(base or {})
        for text in settings:
            name, equals, value = text.partition("=")
            if not equals:
                raise ConfigError(f"'--set {text}' has no value; write '--set {text}=VALUE'.")
            fields[name.strip()] = value.strip()
        return cls.from_dict(fields)

    @classmethod
    def describe(cls) -> list[tuple[str, Any, str]]:
        """Name, default and meaning of every field."""
        return [(f.name, f.default, f.metadata.get("about", "")) for f in dataclasses.fields(cls)]


def _converted(name: str, value: Any, kind: Any) -> Any:
    """A value in the type of its field; texts are parsed."""
    origin = typing.get_origin(kind)
    try:
        if origin is tuple:
            items = [v for v in value.strip("()[] ").split(",") if v.strip()] if isinstance(value, str) else list(value)
            return tuple(_converted(name, v, typing.get_args(kind)[0]) for v in items)
        if kind is bool:
            return _boolean(value)
        if kind is int:
            return _integer(value)
        if kind is float and not isinstance(value, bool):
            return float(value)
        if kind is str and isinstance(value, str):
            return value
    except (TypeError, ValueError):
        pass
    wanted = "a list such as 200,200" if origin is tuple else _ARTICLES.get(kind, str(kind))
    raise ConfigError(f"{name}={value!r} is not {wanted}.")


_ARTICLES: Mapping[Any, str] = types.MappingProxyType(
    {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
    return words[value.lower()] if isinstance(value, str) and value.lower() in words else _fail()


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        _fail()
    number = float(value)
    return int(number) if number.is_integer() else _fail()


def _fail() -> Any:
    raise ValueError
