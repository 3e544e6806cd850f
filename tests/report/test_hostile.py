"""A run in which everything that a user can write tries to become markup."""

import json
import shlex
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from elbax.models.targets import recipe_of
from elbax.report.write import write_report
from elbax.runs.run import train
from tests.report.reader import read_page

SCRIPT = "<script>alert(1)</script>"
QUOTES = "\"'><img src=x onerror=alert(2)>"

RECIPE = '''
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist

import elbax
from elbax.models.recipe import Recipe, option

SITE = "z\\x07" + """%(quotes)s"""


class Model(eqx.Module):
    weight: Any

    def __call__(self, x):
        z = elbax.sample(SITE, dist.Normal(jnp.zeros((len(x), 2)), 1.0).to_event(1))
        elbax.observe("x%(script)s", dist.Normal(self.decode(z), 1.0).to_event(1), x)

    def decode(self, z):
        return z @ self.weight


class Guide(eqx.Module):
    weight: Any

    def __call__(self, x):
        elbax.sample(SITE, dist.Normal(*self.encode(x)).to_event(1))

    def encode(self, x):
        return x @ self.weight.T, jnp.ones((*x.shape[:-1], 2))


@dataclasses.dataclass(frozen=True)
class Hostile(Recipe):
    """%(script)s &amp; $x$ 'quoted' </style>"""

    name: ClassVar[str] = "%(script)s"
    note: str = option("</code>%(script)s", "</td>%(script)s")

    def build(self, data, key):
        weight = 0.1 * jr.normal(key, (2, data.num_pixels))
        return Model(weight), Guide(weight)

    def bound(self, model, guide):
        return elbax.ELBO(model, guide)

    def prepare(self, data):
        return lambda key, batch: data.intensity(batch)

    def seen(self, data, split, count):
        return data.intensity(getattr(data, split)[:count])
'''


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    file = folder / "hostile_recipe.py"
    file.write_text(RECIPE % {"script": SCRIPT, "quotes": r"\"'><img src=x onerror=alert(2)>"})
    images = folder / "<img src=x onerror=alert(3)> & ' \".npy"
    np.save(images, np.random.default_rng(0).random((400, 3, 3)).astype(np.float32))
    target = f"{file}:Hostile"
    settings = ["max_steps=40", "log_every=10", "validate_every=20", "checkpoint_every=20", "eval_particles=4",
                f"note=<b onclick=alert(4)>{QUOTES}"]  # fmt: skip
    recipe = recipe_of(target).from_settings(settings)
    out = folder / f"run {QUOTES}".replace("/", "")
    train(recipe, str(images), out, command=f"elbax fit {SCRIPT} {QUOTES}", progress=False, recipe_path=target)
    sys.modules.pop("hostile_recipe", None)
    config = (out / "config.toml").read_text()
    for name in ("description", "licence", "citation", "python", "device", "platform"):
        lines = [line for line in config.splitlines() if line.startswith(f'"{name}" = ')]
        config = config.replace(lines[0], f'"{name}" = {json.dumps(f"{name} {SCRIPT} {QUOTES} {chr(0)}")}')
    (out / "config.toml").write_text(config.replace("\\u0000", "\\u0007"))
    result = json.loads((out / "result.json").read_text())
    result["advice"] = f"advice {SCRIPT} \ud800"
    (out / "result.json").write_text(json.dumps(result))
    return write_report(out)


def test_nothing_became_markup(hostile):
    text = hostile.read_text()
    page = read_page(text)
    assert page.problems == []
    assert "<script" not in text
    assert "<img" not in text
    assert "alert(1)" in page.text


def test_everything_is_shown_as_it_was_written(hostile):
    page = read_page(hostile.read_text())
    for said in (
        f"{SCRIPT} on", f"elbax fit {SCRIPT} {QUOTES}", f"<b onclick=alert(4)>{QUOTES}", f"</code>{SCRIPT}",
        f"</td>{SCRIPT}", f"licence {SCRIPT} {QUOTES} \ufffd", f"citation {SCRIPT}", f"advice {SCRIPT} \ufffd",
        f"{SCRIPT} &amp; $x$ 'quoted' </style>", "<img src=x onerror=alert(3)> & ' \".npy", f"z\ufffd{QUOTES}",
        f"\N{MINUS SIGN}log p(x{SCRIPT}): reconstruction", f"device {SCRIPT}",
    ):  # fmt: skip
        assert said in page.text
    labels = " ".join(svg["aria-label"] for svg in page.named("svg"))
    assert f"z\ufffd{QUOTES}" in labels


def test_the_command_can_be_given_to_a_shell(hostile):
    commands = [line for line in read_page(hostile.read_text()).text.splitlines() if "runs/again" in line]
    (command,) = [c[c.index("elbax fit") :] for c in commands]
    start = command[: command.index("On with this run")]
    words = shlex.split(start)
    assert words[2].endswith("hostile_recipe.py:Hostile")
    assert words[words.index("--data") + 1].endswith("<img src=x onerror=alert(3)> & ' \".npy")
    assert f"note=<b onclick=alert(4)>{QUOTES}" in words


def test_the_files_of_figures_hold_no_markup_either(hostile):
    for path in (hostile.parent / "figures").glob("*.svg"):
        elements = {element.tag.rpartition("}")[2] for element in ElementTree.parse(path).iter()}
        assert not elements & {"script", "img", "foreignObject", "a"}
