# NumPyro annotates its statements loosely.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro import handlers
from numpyro.contrib.control_flow import cond, scan
from numpyro.distributions import constraints
from numpyro.infer import Trace_ELBO
from numpyro.infer.autoguide import (
    AutoBNAFNormal,
    AutoDelta,
    AutoDiagonalNormal,
    AutoIAFNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)
from scipy.stats import norm

import elbax
from elbax.errors import ProgramError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5]) + 0.3 * RNG.normal(size=20)).astype(np.float32)


def regression(x, y):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    s = numpyro.sample("s", dist.HalfNormal(1.0))
    with numpyro.plate("n", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ b, s), obs=y)


def same_bound(model, guide, *args, num_draws=2000):
    """The means of elbax's ELBO and of NumPyro's agree for the same parameters.

    A z-test at a false-failure rate of 1e-6 that sees a difference of 5 % of the bound; a dropped scale, mask or
    Jacobian is larger.
    """
    p = elbax.from_numpyro(model, *args, key=jr.key(1))
    q = elbax.from_numpyro(guide, *args, key=jr.key(2))
    f = jax.jit(jax.vmap(lambda k: elbax.surrogate(elbax.ELBO(p, q))(k, *args)))
    ours = np.asarray(f(jr.split(jr.key(3), num_draws)))
    params = p.constrained() | q.constrained()
    loss = Trace_ELBO()
    theirs = np.asarray(
        jax.jit(jax.vmap(lambda k: loss.loss(k, params, model, guide, *args)))(jr.split(jr.key(4), num_draws))
    )
    error = np.hypot(ours.std(), theirs.std()) / np.sqrt(num_draws)
    difference = abs(ours.mean() - theirs.mean())
    assert difference < norm.isf(0.5e-6) * error + 1e-4 * abs(theirs.mean()), (ours.mean(), theirs.mean(), error)
    assert norm.isf(0.5e-6) * error < 0.05 * abs(theirs.mean()), "too few draws to see anything"
    return p, q


AUTOGUIDES = [
    AutoNormal,
    AutoDiagonalNormal,
    AutoMultivariateNormal,
    AutoLowRankMultivariateNormal,
    AutoDelta,
]


@pytest.mark.filterwarnings("ignore")  # NumPyro's own, about initial strategies
class TestSameBound:
    @pytest.mark.parametrize("guide", AUTOGUIDES, ids=lambda g: g.__name__)
    def test_autoguides(self, guide):
        # Starting near the data, so that the bound does not vary by orders of magnitude.
        values = {"b": jnp.array([1.0, -2.0, 0.5]), "s": jnp.array(0.5)}
        same_bound(regression, guide(regression, init_loc_fn=numpyro.infer.init_to_value(values=values)), X, Y)

    @pytest.mark.parametrize("guide", [AutoIAFNormal, AutoBNAFNormal], ids=lambda g: g.__name__)
    def test_flows(self, guide):
        def model(x):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
            numpyro.sample("x", dist.Normal(z.sum(), 3.0), obs=x)

        same_bound(model, guide(model), 1.0, num_draws=10_000)

    def test_plates_masks_and_scales(self):
        rows, columns = numpyro.plate("n", 6, dim=-2), numpyro.plate("m", 4, dim=-1)

        def model(x):
            with rows, columns, handlers.scale(scale=2.5), handlers.mask(mask=jnp.arange(4) < 3):
                z = numpyro.sample("z", dist.Normal(0.0, 1.0))
                numpyro.sample("x", dist.Normal(z, 1.0), obs=x)
            numpyro.factor("f", -0.5 * z.sum())

        def guide(x):
            loc = numpyro.param("loc", 0.3 * jnp.ones((6, 4)))
            width = numpyro.param("width", 0.7, constraint=constraints.positive)
            with rows, columns, handlers.scale(scale=2.5), handlers.mask(mask=jnp.arange(4) < 3):
                numpyro.sample("z", dist.Normal(loc, width))

        _, q = same_bound(model, guide, jnp.ones((6, 4)))
        assert set(q.params) == {"loc", "width"}
        np.testing.assert_allclose(q.constrained()["width"], 0.7, rtol=1e-6)

    def test_scan(self):
        def model(y):
            def step(z, y):
                z = numpyro.sample("z", dist.Normal(0.9 * z, 1.0))
                numpyro.sample("y", dist.Normal(z, 1.0), obs=y)
                return z, z

            scan(step, 0.0, y)

        def guide(y):
            a = numpyro.param("a", 0.4)

            def step(z, y):
                z = numpyro.sample("z", dist.Normal(a * (z + y), 0.8))
                return z, z

            scan(step, 0.0, y)

        p, q = same_bound(model, guide, Y[:6])
        graph = elbax.trace(elbax.ELBO(p, q), Y[:6])
        assert graph.nodes["z"].shape == (6,)
        assert graph.nodes["z"].loops == 1
        assert str(graph.relation("z", "-log p(y)")) == "<="

    def test_local_latents(self):
        def model(x):
            with numpyro.plate("n", x.shape[0]):
                z = numpyro.sample("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
                numpyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

        def guide(x):
            w = numpyro.param("w", jnp.array([0.2, 0.5]))
            with numpyro.plate("n", x.shape[0]):
                numpyro.sample("z", dist.Normal(x[:, None] * w, 0.8).to_event(1))

        p, q = same_bound(model, guide, Y)
        assert set(elbax.trace(elbax.ELBO(p, q), Y).costs) == {"-log p(x)", "KL(z)"}


class TestFit:
    def test_regression_reaches_the_bound_of_numpyro(self):
        """Full rank against full rank, the same number of steps: equal to the Monte Carlo error of both."""
        guide = AutoMultivariateNormal(regression)
        p = elbax.from_numpyro(regression, X, Y, key=jr.key(0))
        q = elbax.from_numpyro(guide, X, Y, key=jr.key(1))
        f = elbax.fit(p, q, (X, Y), key=jr.key(2), batch_size=20, max_steps=4000, optimizer=optax.adam(1e-2))
        svi = numpyro.infer.SVI(regression, guide, numpyro.optim.Adam(1e-2), Trace_ELBO())
        losses = np.asarray(svi.run(jr.key(3), 4000, X, Y, progress_bar=False).losses)[-1000:]
        assert f.bounds[-10:].mean() * 20 == pytest.approx(-losses.mean(), abs=0.3)
        posterior = guide.sample_posterior(jr.key(4), f.guide.constrained(), sample_shape=(2000,))
        exact = np.linalg.solve(X.T @ X + 0.09 * np.eye(3), X.T @ Y)
        np.testing.assert_allclose(posterior["b"].mean(0), exact, atol=0.1)

    def test_subsampled_plate(self):
        """Rows drawn inside the program, shared by model and guide, with NumPyro's scale."""

        def model(y):
            mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
            with numpyro.plate("n", 20, subsample_size=5) as rows:
                numpyro.sample("y", dist.Normal(mu, 1.0), obs=y[rows])

        p = elbax.from_numpyro(model, Y, key=jr.key(0))
        q = elbax.from_numpyro(AutoNormal(model), Y, key=jr.key(1))
        graph = elbax.trace(elbax.ELBO(p, q), Y)
        assert graph.plan["n:rows"].startswith("Fixed()")
        rate = optax.polynomial_schedule(0.03, 0.0, 1.0, 8000)
        f = elbax.fit(p, q, Y, key=jr.key(2), max_steps=8000, optimizer=optax.adam(rate), log_every=500)
        np.testing.assert_allclose(f.guide.params["mu_auto_loc"], Y.sum() / 21, atol=0.05)
        np.testing.assert_allclose(f.guide.constrained()["mu_auto_scale"], 21**-0.5, rtol=0.1)


class TestStatements:
    def test_cond(self):
        """NumPyro wants one site in both branches; elbax wants a name for each, and says so."""

        def model(x):
            a = cond(
                x > 0,
                lambda s: numpyro.sample("a", dist.Normal(0.0, s)),
                lambda s: numpyro.sample("a", dist.Normal(1.0, s)),
                1.0,
            )
            numpyro.sample("x", dist.Normal(a, 1.0), obs=x)

        program = elbax.from_numpyro(model, 1.0, key=jr.key(0))
        with pytest.raises(ProgramError, match=r"two sites are called 'a': test_numpyro.py:\d+ and"):
            elbax.trace(program, 1.0)

    def test_conditioned_and_deterministic(self):
        def model(x):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0))
            w = numpyro.deterministic("w", 2 * z)
            numpyro.sample("x", dist.Normal(w, 1.0), obs=x)

        conditioned = handlers.condition(model, {"z": jnp.array(0.3)})
        graph = elbax.trace(elbax.from_numpyro(conditioned, 1.0, key=jr.key(0)), 1.0)
        assert graph.samples == ()
        assert set(graph.costs) == {"z", "x"}

    def test_random_keys_are_refused(self):
        def model(x):
            key = numpyro.prng_key()
            numpyro.sample("x", dist.Normal(jr.normal(key), 1.0), obs=x)

        program = elbax.from_numpyro(model, 1.0, key=jr.key(0))
        with pytest.raises(ProgramError, match="asks for a random key"):
            elbax.trace(program, 1.0)

    def test_names_of_programs_and_arguments(self):
        graph = elbax.trace(elbax.from_numpyro(regression, X, Y, key=jr.key(0)), X, Y)
        assert graph.name == "regression"
        assert graph.nodes["x"].kind == "input"
