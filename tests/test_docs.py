"""Every Python snippet of the README and the documentation runs as it stands, page by page from top to bottom."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What a page assumes its reader has: a model, a guide, some data.
PREAMBLE = """
import equinox as eqx, jax, jax.numpy as jnp, numpy as np, numpyro, numpyro.distributions as dist, optax
import elbax
key = jax.random.key(0)
def model(x):
    z = elbax.sample("z", dist.Normal(jnp.zeros(x.shape[0]), 1.0))
    elbax.observe("x", dist.Normal(z, 1.0), x)
def _guide(a, x):
    elbax.sample("z", dist.Normal(a * x, 0.8))
guide = eqx.Partial(_guide, jnp.array(0.3))
x_train, x_valid = np.zeros(200, np.float32), np.zeros(50, np.float32)
"""
PREAMBLES = {
    "bounds.md": PREAMBLE,
    "diagnose.md": PREAMBLE,
    "fit.md": PREAMBLE,
    "truth.md": PREAMBLE + "x_test = np.random.default_rng(0).normal(size=8).astype(np.float32)\n",
    "numpyro.md": PREAMBLE + "x, y = jnp.ones((10, 3)), jnp.ones(10)\n",
    "estimators.md": PREAMBLE
    + """
theta = jnp.array([0.3, -0.5])
def program(theta):
    b = elbax.sample("b", dist.Bernoulli(logits=theta[0]))
    return (b - 0.45) ** 2 * theta[1]
""",
    "errors.md": "import elbax\nlayers, h = [], 0\n",
}


def snippets(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def named(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [p for p in PAGES if snippets(p)], ids=named)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_snippets_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "images.npy" in page.read_text(encoding="utf-8"):
        import numpy as np

        np.save("images.npy", (np.random.default_rng(0).random((30, 4, 4)) > 0.5).astype(np.uint8))
    names = {}
    exec(PREAMBLES.get(page.name, ""), names)
    code = "\n".join(snippets(page)).replace('data.load("mnist")', "None")  # would be fetched
    exec(compile(code, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{named(page)} links to {target}"


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example.read_text(encoding="utf-8"), str(example), "exec"), names)
    names["main"]()
