import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import elbax
from elbax.errors import ConfigError, DataError, ProgramError, RunError
from elbax.fit.feed import make_feed, permutation
from tests.oracles import linear_gaussian as lg

NEVER = elbax.Stopping(stationary=None, patience=None, divergence=None)


def data(n=400):
    rng = np.random.default_rng(1)
    z = rng.normal(size=(n, lg.NUM_LATENTS))
    w = np.array([[0.9, -0.4], [0.3, 1.1], [-0.7, 0.2]])
    return (z @ w.T + 0.5 + 0.6 * rng.normal(size=(n, lg.NUM_PIXELS))).astype(np.float32)


def pair():
    return lg.make_model(), lg.rough_mean_field()


def fit(*args, key=None, **options):
    options = {"max_steps": 300, "batch_size": 50, "stopping": NEVER} | options
    return elbax.fit(*args, key=jr.key(0) if key is None else key, **options)


def leaves(fitted):
    return jax.tree.leaves(eqx.filter(fitted.bound, eqx.is_array))


def same(a, b):
    return all((x == y).all() for x, y in zip(leaves(a), leaves(b), strict=True))


class TestResult:
    def test_reaches_the_evidence_of_a_linear_gaussian_model(self):
        """The mean-field optimum of this model is nearly exact; a bound above the evidence would be a sign error."""
        x = data()
        f = fit(*pair(), x, max_steps=6000, optimizer=optax.adam(1e-2))
        evidence = float(lg.log_evidence(f.model, x).mean())
        bound = float(lg.elbo(f.model, f.guide, x).mean())
        best = float(multivariate_optimum(x))
        assert evidence - 0.1 < bound <= evidence + 1e-4
        assert best - 0.1 < evidence <= best + 1e-3
        last = f.bounds[-10:].mean()
        assert abs(last - bound) < 0.1

    def test_history_and_record(self):
        rows = []
        f = fit(*pair(), data(), valid=data(60), on_row=rows.append, validate_every=200)
        assert [r.step for r in f.history] == [100, 200, 300]
        assert rows == list(f.history)
        assert [r.valid_bound is not None for r in f.history] == [False, True, False]
        for row in f.history:
            assert sum(row.costs.values()) == pytest.approx(-row.bound, rel=1e-5)
            assert row.std_error > 0
        assert f.outcome is elbax.Outcome.MAX_STEPS
        assert "Raise max_steps" in f.outcome.advice
        assert f.exact_terms == ("z",)
        assert f.plan["z"].startswith("Pathwise()")
        assert f.config["batch_size"] == 50
        assert f.config["versions"]["jax"] == jax.__version__
        assert "max_steps" in str(f)

    def test_is_a_function_of_the_key(self):
        a, b, c = (fit(*pair(), data(), key=jr.key(k), max_steps=50) for k in (0, 0, 1))
        assert same(a, b)
        assert not same(a, c)

    def test_legacy_keys(self):
        assert fit(*pair(), data(), key=jr.PRNGKey(0), max_steps=20).steps == 20

    def test_one_compilation_for_all_blocks(self):
        traces = []

        def model(x):
            traces.append(1)
            lg.make_model()(x)

        fit(eqx.Partial(lambda w, x: model(x + 0 * w), jnp.array(1.0)), lg.rough_mean_field(), data(), max_steps=120)
        before = len(traces)
        traces.clear()
        fit(eqx.Partial(lambda w, x: model(x + 0 * w), jnp.array(1.0)), lg.rough_mean_field(), data(), max_steps=999)
        assert len(traces) == before


def multivariate_optimum(x):
    """The evidence of the best rank-2 model: probabilistic PCA by eigenvalues (Tipping & Bishop, 1999)."""
    values = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
    d, q = lg.NUM_PIXELS, lg.NUM_LATENTS
    noise = values[q:].mean()
    log_det = np.log(values[:q]).sum() + (d - q) * np.log(noise)
    return -0.5 * (d * np.log(2 * np.pi) + log_det + d)


class TestSubsampling:
    def test_latents_shared_by_all_data_have_the_exact_posterior(self):
        """Batches of a conjugate model: local costs scale with the data, the KL of the mean does not.

        Known variance 1, prior N(0, 1): posterior N(sum x / (n + 1), 1 / (n + 1)). A wrong scale moves both: with the
        batch size in place of the data size, the scale would be 0.44 in place of 0.16.
        """
        x = (np.random.default_rng(0).normal(size=40) + 1.5).astype(np.float32)

        def model(x):
            mu = elbax.sample("mu", dist.Normal(0.0, 1.0))
            elbax.observe("x", dist.Normal(mu, 1.0), x)

        def guide(phi, x):
            elbax.sample("mu", dist.Normal(phi["loc"], jnp.exp(phi["log_scale"])))

        phi = {"loc": jnp.array(0.0), "log_scale": jnp.array(0.0)}
        # A step that decays to zero averages out the noise of batches and draws.
        rate = optax.polynomial_schedule(0.05, 0.0, 1.0, 20_000)
        f = fit(
            model,
            eqx.Partial(guide, phi),
            x,
            batch_size=4,
            max_steps=20_000,
            optimizer=optax.adam(rate),
            log_every=1000,
        )
        found = f.guide.args[0]
        np.testing.assert_allclose(found["loc"], x.sum() / 41, atol=0.02)
        np.testing.assert_allclose(jnp.exp(found["log_scale"]), 41**-0.5, rtol=0.05)

    def test_bound_is_per_datum(self):
        """The same number for batches, for all data at once, and for a data set repeated twice."""
        x = data(100)
        bounds = [
            fit(*pair(), d, batch_size=b, max_steps=400, optimizer=optax.sgd(0.0)).bounds.mean()
            for d, b in ((x, 10), (x, 100), (np.concatenate([x, x]), 40))
        ]
        exact = float(lg.elbo(*pair(), x).mean())
        np.testing.assert_allclose(bounds, exact, atol=0.25)

    def test_size_of_a_stream_must_be_known_for_shared_latents(self):
        def model(x):
            mu = elbax.sample("mu", dist.Normal(0.0, 1.0))
            elbax.observe("x", dist.Normal(mu, 1.0), x)

        def guide(loc, x):
            elbax.sample("mu", dist.Normal(loc, 1.0))

        batches = itertools.repeat(np.ones(4, np.float32))
        with pytest.raises(ConfigError, match=r"cost 'KL\(mu\)' is shared by all data, .* Pass num_data"):
            fit(model, eqx.Partial(guide, jnp.array(0.0)), iter(batches), batch_size=None)


class TestFeeds:
    def test_memory_map_equals_array(self, tmp_path):
        x = data()
        np.save(tmp_path / "x.npy", x)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert same(fit(*pair(), x, max_steps=230), fit(*pair(), mapped, max_steps=230))

    def test_iterator_equals_its_batches(self):
        x = data(100).reshape(2, 50, 3)
        f = fit(*pair(), itertools.cycle([x[0], x[1]]), batch_size=None, max_steps=130)
        assert f.steps == 130
        g = fit(*pair(), iter([x[i % 2] for i in range(131)]), batch_size=None, max_steps=130)
        assert same(f, g)

    def test_iterator_that_ends(self):
        batches = iter([data(50)] * 20)
        with pytest.raises(DataError, match="ended after 20 batches, before training did"):
            fit(*pair(), batches, batch_size=None)

    def test_iterator_with_uneven_batches(self):
        batches = itertools.chain([data(50)] * 3, [data(20)])
        with pytest.raises(DataError, match="batch 3 of the iterator has shapes"):
            fit(*pair(), batches, batch_size=None)

    def test_several_arrays(self):
        def model(x, y):
            z = elbax.sample("z", dist.Normal(jnp.zeros(x.shape[0]), 1.0))
            elbax.observe("y", dist.Normal(z + x, 1.0), y)

        def guide(a, x, y):
            elbax.sample("z", dist.Normal(a * (y - x), 0.7))

        x, y = np.zeros(60, np.float32), np.ones(60, np.float32)
        f = fit(model, eqx.Partial(guide, jnp.array(0.0)), (x, y), max_steps=2000, optimizer=optax.adam(0.01))
        np.testing.assert_allclose(f.guide.args[0], 0.5, atol=0.05)  # the posterior mean is (y - x) / 2

    def test_programs_that_hold_their_data(self):
        def model():
            z = elbax.sample("z", dist.Normal(0.0, 1.0))
            elbax.observe("x", dist.Normal(z, 1.0), 1.0)

        def guide(loc):
            elbax.sample("z", dist.Normal(loc, 0.7))

        f = fit(model, eqx.Partial(guide, jnp.array(0.0)), max_steps=3000, optimizer=optax.adam(0.01), batch_size=None)
        np.testing.assert_allclose(f.guide.args[0], 0.5, atol=0.1)

    def test_prepare_runs_on_every_batch_with_a_fresh_key(self):
        x = np.full((50, 3), 0.5, np.float32)
        f = fit(
            *pair(),
            x,
            prepare=lambda key, batch: batch + jr.normal(key, batch.shape),
            max_steps=100,
            optimizer=optax.sgd(0.0),
            batch_size=50,
        )
        assert f.history[0].std_error > 0.01

    def test_permutations_cover_every_row_once(self):
        seed = np.array([3, 4], np.uint32)
        orders = [permutation(seed, epoch, 17) for epoch in range(3)]
        for order in orders:
            assert sorted(order) == list(range(17))
        assert (orders[0] != orders[1]).any()

    def test_batches_of_an_epoch_are_disjoint(self):
        feed = make_feed(np.arange(23.0), 5, jr.key(0))
        source = feed.source(3, 6)
        rows = [np.asarray(feed.select(source, jnp.int32(s), jnp.int32(0))) for s in range(4, 8)]
        assert len(set(np.concatenate(rows).tolist())) == 20


class TestStopping:
    def test_converged(self):
        f = fit(*pair(), data(), max_steps=50_000, stopping=elbax.Stopping(elbax.Stationary(window=10)))
        assert f.outcome is elbax.Outcome.CONVERGED
        assert 2000 <= f.steps < 50_000

    def test_patience_returns_the_best_parameters(self):
        x = data(10)  # few data, so that the model over-fits
        f = fit(
            *pair(),
            x,
            batch_size=10,
            valid=data()[300:],
            max_steps=30_000,
            optimizer=optax.adam(0.02),
            stopping=elbax.Stopping(stationary=None, patience=elbax.Patience(8)),
        )
        assert f.outcome is elbax.Outcome.PATIENCE
        bounds = {r.step: r.valid_bound for r in f.history if r.valid_bound is not None}
        assert f.best_step == max(bounds, key=lambda s: bounds[s])
        assert f.best_step < f.steps

    def test_diverged(self):
        f = fit(*pair(), data(), optimizer=optax.sgd(-0.5), max_steps=4000, stopping=elbax.Stopping(), throw=False)
        assert f.outcome in (elbax.Outcome.DIVERGED, elbax.Outcome.NON_FINITE)

    def test_rules_by_hand(self):
        stationary = elbax.Stationary(window=3, tolerance=0.1)
        assert not stationary.met([1.0] * 5)
        assert stationary.met([1.0] * 6)
        assert not stationary.met([1.0, 1.0, 1.0, 1.2, 1.2, 1.2])
        assert not stationary.met([0.0, 2.0, 1.0, 0.0, 2.0, 1.0])  # too noisy to tell
        patience = elbax.Patience(2)
        assert not patience.met([1.0, 2.0, 1.5])
        assert patience.met([1.0, 2.0, 1.5, 1.9])


class TestErrors:
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((0, 3), np.float32), "the data are empty"),
            (np.float32(3.0), "one row per datum"),
            ((np.zeros((4, 3)), np.zeros(5)), "equally many rows"),
            ("nonsense", "must be an array"),
            (iter([]), "iterator of batches is empty"),
        ],
        ids=["empty", "scalar", "uneven", "text", "iterator"],
    )
    def test_data(self, x, message):
        with pytest.raises(DataError, match=message):
            fit(*pair(), x, batch_size=None)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("which", ["data", "valid"])
    def test_non_finite_data(self, bad, which):
        x = data(20)
        x[7, 1] = bad
        arrays = {"data": (x, None), "valid": (data(20), x)}[which]
        with pytest.raises(DataError, match=f"{which} holds NaN or infinity, first in row 7"):
            fit(*pair(), arrays[0], valid=arrays[1], batch_size=10)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": 999}, "batch_size=999 does not fit data of 40 rows"),
            ({"max_steps": 0}, "max_steps must be a whole number"),
            ({"log_every": 0}, "log_every must be a whole number"),
            ({"validate_every": 150}, "validate_every=150 must be a multiple of log_every=100"),
            ({"checkpoint_every": 30}, "checkpoint_every=30 must be a multiple"),
            ({"resume": True}, "needs the checkpoint folder"),
        ],
        ids=lambda v: str(v)[:20],
    )
    def test_options(self, options, message):
        with pytest.raises((ConfigError, DataError), match=message):
            fit(*pair(), data(40), **({"batch_size": 20} | options))

    def test_nothing_to_train(self):
        def model(x):
            z = elbax.sample("z", dist.Normal(jnp.zeros(x.shape[0]), 1.0))
            elbax.observe("x", dist.Normal(z, 1.0), x)

        def guide(x):
            elbax.sample("z", dist.Normal(x, 1.0))

        with pytest.raises(ConfigError, match="nothing to train"):
            fit(model, guide, np.zeros(10, np.float32), batch_size=5)

    def test_key(self):
        with pytest.raises(ProgramError, match="random key"):
            elbax.fit(*pair(), data(), key=3)  # type: ignore[arg-type]


class TestResume:
    def test_resumed_run_is_bit_identical(self, tmp_path):
        options = {"valid": data(60), "checkpoint_every": 100}
        whole = fit(*pair(), data(), max_steps=900, **options)
        for steps in (300, 500, 900):
            resumed = fit(*pair(), data(), max_steps=steps, checkpoint=tmp_path, resume=True, **options)
        assert same(whole, resumed)
        assert whole.history == resumed.history
        assert whole.best_step == resumed.best_step

    def test_finished_run_does_nothing(self, tmp_path):
        a = fit(*pair(), data(), checkpoint=tmp_path)
        b = fit(*pair(), data(), checkpoint=tmp_path, resume=True)
        assert same(a, b)
        assert a.history == b.history

    def test_other_options_are_refused(self, tmp_path):
        fit(*pair(), data(), checkpoint=tmp_path)
        with pytest.raises(RunError, match="has batch_size=50, this call has batch_size=40"):
            fit(*pair(), data(), checkpoint=tmp_path, resume=True, batch_size=40)

    def test_other_model_is_refused(self, tmp_path):
        fit(*pair(), data(), checkpoint=tmp_path)
        with pytest.raises(RunError, match="belongs to another model or optimiser"):
            fit(*pair(), data(), checkpoint=tmp_path, resume=True, optimizer=optax.sgd(1e-3))

    def test_few_checkpoints_are_kept(self, tmp_path):
        fit(*pair(), data(), checkpoint=tmp_path, checkpoint_every=100)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["step-0000000200.ckpt", "step-0000000300.ckpt"]
