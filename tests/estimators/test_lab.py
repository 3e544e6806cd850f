"""The laboratory finds what is known: who is biased, who varies less, what the gradient is."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import elbax
from elbax.errors import ConfigError, EstimatorError
from elbax.estimators.lab.candidates import EVERYTHING, candidates_of
from elbax.estimators.lab.comparison import Comparison
from tests.oracles import programs
from tests.oracles.enumeration import exact_gradient

THETA = jnp.asarray(programs.THETA, jnp.float32)
TRIED = [elbax.Score(), elbax.RLOO(2), elbax.Enumerate(), elbax.StraightThrough(), elbax.Pathwise()]


@pytest.fixture(scope="module")
def found() -> Comparison:
    return elbax.compare_estimators(programs.two_layers, (THETA,), TRIED, key=jr.key(0), num_draws=4000)


def row(found, site, label):
    return next(r for r in found.of(site) if r.label == label)


class TestComparison:
    def test_reference_is_the_exact_gradient(self, found):
        assert found.reference.about == "enumeration of 64 joint outcomes"
        with jax.enable_x64(True):
            (exact,) = exact_gradient(programs.two_layers, jnp.asarray(programs.THETA))[1]
        np.testing.assert_allclose(found.reference.gradient, exact, rtol=1e-4)
        assert not found.reference.std_error.any()

    def test_no_bias_is_seen_where_there_is_none(self, found):
        for r in found.rows:
            assert r.unbiased == (r.label != "StraightThrough()")
            assert not (r.unbiased and r.bias_seen), (r.site, r.label, r.z)

    def test_bias_is_seen_where_it_is(self):
        """A curved cost, whose slope at the outcomes is not what they differ by."""

        def program(theta):
            return jnp.exp(2.0 * elbax.sample("b", dist.Bernoulli(logits=theta)))

        found = elbax.compare_estimators(program, (0.3,), TRIED, key=jr.key(0), num_draws=1000)
        assert [r.label for r in found.rows if r.bias_seen] == ["StraightThrough()"]
        assert "biased (z =" in str(found)
        s, exact = jax.nn.sigmoid(0.3), math.exp(2.0) - 1.0
        mean = s * (1 - s) * (2.0 * s * math.exp(2.0) + 2.0 * (1 - s))
        expected = float(mean / (s * (1 - s) * exact) - 1)
        assert row(found, "b", "StraightThrough()").groups["all"].bias == pytest.approx(expected, abs=0.1)

    @pytest.mark.parametrize("site", ["h", "v"])
    def test_variances_are_in_their_known_order(self, found, site):
        """With the other node summed out: a plain score, leave-one-out, an exact sum."""
        score, rloo, exact = (row(found, site, x).groups["all"] for x in ("Score()", "RLOO()", "Enumerate()"))
        assert score.variance - 4 * score.variance_error > rloo.variance + 4 * rloo.variance_error
        assert rloo.variance >= exact.variance - 4 * (rloo.variance_error + exact.variance_error)

    def test_variance_is_that_of_the_samples(self, found):
        run = elbax.value_and_grad(programs.two_layers, row(found, "h", "Score()").assignment)
        grads = jax.jit(jax.vmap(lambda k: run(k, THETA)[1]))(jr.split(jr.key(1), 20_000))
        group = row(found, "h", "Score()").groups["all"]
        assert abs(float(grads.var(0).sum()) - group.variance) < 6 * group.variance_error

    def test_consistency(self, found):
        for r in found.rows:
            counts, errors = zip(*r.errors, strict=True)
            assert counts[0] == 1
            assert counts[-1] == r.num_draws
            if r.unbiased:  # sixteen means and fewer: a slope is known to about a tenth
                assert -0.75 < r.slope < -0.3
            else:  # the error stays at the bias
                assert errors[-1] > 0.5 * abs(r.groups["all"].bias) * np.linalg.norm(found.reference.gradient)

    def test_best_is_unbiased_and_can_be_used(self, found):
        assert set(found.best) == {"h", "v"}
        assert all(e.unbiased for e in found.best.values())
        elbax.value_and_grad(programs.two_layers, found.best)(jr.key(0), THETA)
        for site in ("h", "v"):
            assert found.of(site)[0] in found.tied(site)
            assert found.of(site)[-1].label == "StraightThrough()"

    def test_refusals_are_kept_with_their_reason(self, found):
        assert set(found.refused) == {("h", "Pathwise()"), ("v", "Pathwise()")}
        assert "Bernoulli is discrete" in found.refused["h", "Pathwise()"]

    def test_text_and_figures(self, found, tmp_path):
        said = str(found)
        for words in ("reference: enumeration of 64 joint outcomes", "site 'h'", "best together: h:"):
            assert words in said
        data = found.as_dict()
        assert len(data["rows"]) == 8
        assert all(math.isfinite(r["variance_times_seconds"]) for r in data["rows"])
        path = found.plot(tmp_path / "a.svg")
        assert path.stat().st_size > 10_000
        with pytest.raises(ConfigError, match="exists"):
            found.plot(path)
        with pytest.raises(ConfigError, match="neither"):
            found.plot(tmp_path / "a.pdf")


def test_a_long_run_where_outcomes_are_infinite():
    """Its error is counted: an unbiased estimator is not called biased because the reference is noisy."""
    theta = jnp.array([0.3, 0.5])

    def program(theta):
        z = elbax.sample("z", dist.Normal(theta[0], 1.0))
        return theta[1] * z**2

    found = elbax.compare_estimators(
        program, (theta,), [elbax.Pathwise(), elbax.Score()], key=jr.key(0), num_draws=1000
    )
    assert "draws with z: Pathwise()" in found.reference.about
    exact = np.array([2 * theta[0] * theta[1], theta[0] ** 2 + 1])
    assert (np.abs(found.reference.gradient - exact) < 6 * found.reference.std_error).all()
    assert not any(r.bias_seen for r in found.rows)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"reference": "guess"}, 'must be "auto", "exact" or "long_run"'),
        ({"candidates": {"nobody": [elbax.Score()]}}, "names 'nobody'"),
        ({"candidates": [elbax.Pathwise()]}, "no candidate can serve a node"),
        ({"reference": "long_run", "base": elbax.StraightThrough()}, "is biased"),
    ],
)
def test_impossible_questions(options, match):
    with pytest.raises(ConfigError, match=match):
        elbax.compare_estimators(programs.single, (THETA,), key=jr.key(0), **options)


def test_an_invalid_base_is_refused():
    with pytest.raises(EstimatorError, match="is discrete"):
        elbax.compare_estimators(programs.single, (THETA,), key=jr.key(0), base=elbax.Pathwise())


def test_candidates_are_those_that_can_serve():
    sites = elbax.surrogate(programs.chain).plan((THETA,), {})[0].sites
    assert not any(e.probes for e in candidates_of(sites["s"]))
    assert elbax.Score() in candidates_of(sites["s"])
    sites = elbax.surrogate(programs.single).plan((THETA,), {})[0].sites
    assert {type(e) for e in EVERYTHING} - {type(e) for e in candidates_of(sites["b"])} == {
        elbax.Pathwise,
        elbax.Unordered,
        elbax.Fini,
    }


@pytest.mark.slow
def test_fifty_probing_nodes():
    """Each node with probes of its own: the work adds up, and it compiles."""

    def program(theta):
        total = jnp.zeros(())
        for i in range(50):
            b = elbax.sample(f"b{i}", dist.Bernoulli(logits=theta[i % 3] * (i - 25) / 10))
            total = total + (b - 0.45) ** 2 * theta[i % 3]
        return total

    run = elbax.value_and_grad(program, elbax.Enumerate())
    grads = jax.jit(jax.vmap(lambda k: run(k, THETA)[1]))(jr.split(jr.key(0), 64))

    def exact(theta):
        p = jax.nn.sigmoid(theta[jnp.arange(50) % 3] * (jnp.arange(50) - 25) / 10)
        cost = p * 0.55**2 + (1 - p) * 0.45**2
        return jnp.sum(cost * theta[jnp.arange(50) % 3])

    error = grads.std(0) / 8
    assert (jnp.abs(grads.mean(0) - jax.grad(exact)(THETA)) < 6 * error + 1e-4).all()
