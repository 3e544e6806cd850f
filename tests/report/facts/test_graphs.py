"""The graph of a run's bound in words."""

import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import elbax
from elbax.report.facts.graphs import term


def test_an_elbo(elbo_content):
    g = elbo_content.trained.graph
    assert g.svg.startswith("<svg")
    assert g.batch_size == 100
    assert not g.credited
    (node,) = g.nodes
    assert (node.name, node.distribution, node.shape, node.estimator) == ("z", "Normal", "[100, 4]", "Pathwise()")
    assert "reparameterised" in node.reason
    assert node.source.startswith("vae.py:")
    assert [(t.name, t.exact) for t in g.terms] == [("-log p(x)", False), ("KL(z)", True)]
    assert g.terms[0].how == "estimated from draws of z"
    assert g.terms[1].how == "exact, in closed form"
    assert (g.lost[0].node, g.lost[0].axis, g.lost[0].primitive) == ("z", 1, "dot_general")


def test_a_bound_with_particles(iwae_content):
    g = iwae_content.trained.graph
    assert [(t.name, t.exact, t.how) for t in g.terms] == [("-IWAE", False, "estimated from draws of z")]
    assert any(m.source == "" for m in g.lost)


@pytest.fixture(scope="module")
def ladder():
    """A bound whose second KL is in closed form only given a draw of the first site."""

    def model(x):
        a = elbax.sample("a", dist.Normal(jnp.zeros(3), 1.0))
        b = elbax.sample("b", dist.Normal(a, 1.0))
        elbax.observe("x", dist.Normal(a * b, 1.0), x)

    def guide(x):
        a = elbax.sample("a", dist.Normal(x, 1.0))
        elbax.sample("b", dist.Normal(a + x, 1.0))

    return elbax.trace(elbax.ELBO(model, guide), jnp.ones(3))


def test_how_terms_are_computed(ladder):
    said = {name: term(ladder, name).how for name in ladder.costs}
    assert said == {
        "-log p(x)": "estimated from draws of a and b",
        "KL(a)": "exact, in closed form",
        "KL(b)": "in closed form, given draws of a",
    }
