"""How to repeat a run, and everything that it was made with."""

from __future__ import annotations

from elbax.report.content import Content
from elbax.report.markup import Html, join, table, tag
from elbax.report.numbers import count, duration
from elbax.report.sections.base import Section

__all__ = ["repeat_section", "setup_section"]


def repeat_section(content: Content) -> Section:
    """The commands that repeat and continue the run."""
    setup = content.setup
    parts = [
        tag("p", "The same run again, in a new folder; fields that are not named have their defaults:"),
        tag("pre", tag("code", setup.repeat)),
        tag("p", f"On with this run, from the folder that holds {setup.folder}:"),
        tag("pre", tag("code", setup.resume)),
    ]
    if setup.command:
        parts += [tag("p", "The command as it was given last:"), tag("pre", tag("code", setup.command))]
    parts.append(
        tag(
            "p",
            f"Everything random comes from seed {setup.seed}: weights and training from the two halves of ",
            tag("code", f"jax.random.split(jax.random.key({setup.seed}))"),
            ". On the same machine with the same versions the run repeats itself to the last bit, also when it is "
            "interrupted and resumed; other hardware or versions round differently.",
            class_="note",
        )
    )
    return Section("repeat", "Repeat and continue", tuple(parts))


def setup_section(content: Content) -> Section:
    """Configuration, versions, machine, time."""
    setup = content.setup
    rows = [(tag("code", f.name), value_text(f.value, changed=f.changed), f.default, f.about) for f in setup.fields]
    fields = table(rows, head=("Field", "Value", "Default", "Meaning"), class_="about stack")
    facts = tag(
        "dl", join(join([tag("dt", name), tag("dd", value)]) for name, value in made_with(content)), class_="facts"
    )
    return Section("setup", "Configuration", (facts, tag("h3", "Fields of the recipe"), fields))


def value_text(value: str, *, changed: bool) -> Html:
    """A value, marked if it departs from the default."""
    return tag("code", value, class_="changed" if changed else None)


def made_with(content: Content) -> list[tuple[str, str]]:
    """Recipe, sizes, time, machine and versions."""
    setup, trained, seconds = content.setup, content.trained, content.status.seconds
    rows = [("Recipe", setup.recipe)]
    if trained is not None:
        parts = ", ".join(f"{name} {count(n)}" for name, n in trained.parameters.items())
        rows.append(("Parameters", f"{count(sum(trained.parameters.values()))} ({parts})"))
    rows.append(("Key", f"jax.random.key({setup.seed})"))
    if seconds is not None:
        rows.append(("Time", f"{duration(seconds)} for the last session of training, compilation included"))
    rows.append(("Device", str(setup.machine.get("device", "not recorded"))))
    rows.append(("System", str(setup.machine.get("platform", "not recorded"))))
    rows.append(("Versions", ", ".join(f"{name} {version}" for name, version in setup.versions.items())))
    return rows
