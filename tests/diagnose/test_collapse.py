"""Figures of `collapse` where they are known: Gaussian channels, enumeration, guides that ignore their data."""

import json
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import elbax
from elbax import Verdict
from elbax.diagnose.information import Weights
from elbax.errors import ConfigError, DataError, ProgramError
from tests.oracles import linear_gaussian as lg


def normal_data(num, units=1, seed=0):
    """Quantiles of the normal distribution in a random order: columns without sampling error."""
    rng = np.random.default_rng(seed)
    quantiles = stats.norm.ppf((np.arange(num) + 0.5) / num)
    x = np.stack([rng.permutation(quantiles) for _ in range(units)], -1)
    return (x if units > 1 else x[:, 0]).astype(np.float32)


def model(x):
    z = elbax.sample("z", dist.Normal(jnp.zeros(x.shape), 1.0).to_event(1))
    elbax.observe("x", dist.Normal(z, 1.0).to_event(1), x)


class Channel(eqx.Module):
    """z = gain x + noise; with `scale = sqrt(1 - gain^2)`, q(z) is the prior."""

    gain: jax.Array
    loc: float = 0.0
    scale: jax.Array | None = None

    def __call__(self, x):
        scale = jnp.sqrt(1 - self.gain**2) if self.scale is None else self.scale
        elbax.sample("z", dist.Normal(self.gain * x + self.loc, scale).to_event(1))


GAIN = jnp.array([0.9, 0.5, 0.0])
CHANNEL = -0.5 * np.log(1 - np.asarray(GAIN) ** 2)  # 0.5 log(1 + signal / noise)


@pytest.fixture(scope="module")
def channel():
    return elbax.collapse(model, Channel(GAIN), normal_data(600, 3), key=jr.key(0))


class TestChannel:
    def test_kl_is_the_closed_form(self, channel):
        z = channel["z"]
        x = normal_data(600, 3)
        loc, var = np.asarray(GAIN) * x, 1 - np.asarray(GAIN) ** 2
        kl = 0.5 * (loc**2 + var - 1 - np.log(var))
        np.testing.assert_allclose(z.unit_kl, kl.mean(0), rtol=1e-4, atol=1e-6)
        assert z.kl.value == pytest.approx(kl.sum(1).mean(), rel=1e-4)
        assert z.exact
        np.testing.assert_allclose(z.mean_variance, loc.var(0), rtol=1e-4, atol=1e-7)
        assert z.density == pytest.approx((kl > 0.01).mean(), abs=1e-3)

    def test_information_is_that_of_the_channel(self, channel):
        z = channel["z"]
        low, high = z.low, z.high
        assert high - low < 0.05
        # Five standard errors, and what 600 data differ from infinitely many by.
        assert (abs(z.unit_information - CHANNEL) < 5 * z.unit_error + (high - low) + 1e-6).all()
        assert abs(z.information.value - CHANNEL.sum()) < 5 * z.information.std_error + (high - low)
        assert z.information.std_error < 0.05
        assert channel.bias == 0

    def test_aggregated_posterior_is_the_prior(self, channel):
        z = channel["z"]
        assert abs(z.aggregate.value) < 5 * z.aggregate.std_error + (z.high - z.low)
        assert (abs(z.unit_aggregate) < 5 * z.unit_error + 0.05).all()

    def test_verdict(self, channel):
        z = channel["z"]
        assert z.verdict is Verdict.ALIVE
        assert z.used.tolist() == z.active_by_kl.tolist() == z.active_by_variance.tolist() == [True, True, False]
        assert channel.advice("z") == ""
        assert "site 'z' uses 2 of 3 units" in str(channel)
        assert "log 600 = 6.40" in str(channel)

    def test_for_json(self, channel):
        said = json.loads(json.dumps(channel.as_dict()))
        assert said["layers"]["z"]["used"] == 2
        assert said["layers"]["z"]["information"]["unit"] == "nats per datum"


def test_batches_and_their_rest_change_nothing():
    """23 data in batches of 10; information by the entropy of q(z), integrated on a grid."""
    x, gain = normal_data(23), 0.9
    found = elbax.collapse(model, Channel(jnp.full(1, gain)), x[:, None], key=jr.key(0), batch_size=10, num_draws=200)
    scale = np.sqrt(1 - gain**2)
    kl = 0.5 * ((gain * x) ** 2 + scale**2 - 1) - np.log(scale)
    assert found.kl.value == pytest.approx(kl.mean(), rel=1e-4)
    grid = np.linspace(-6, 6, 20_001)
    q = stats.norm.pdf(grid[:, None], gain * x, scale).mean(1)
    exact = -np.trapezoid(q * np.log(q), grid) - 0.5 * np.log(2 * np.pi * np.e * scale**2)
    z = found["z"]
    assert z.information.std_error < 0.02
    assert abs(z.information.value - exact) < 5 * z.information.std_error


@pytest.mark.slow
def test_a_sample_of_the_data_stands_for_all():
    """q(z) of 1000 data from 100: bounds hold what is known, and the estimate is between them."""
    found = elbax.collapse(model, Channel(GAIN), normal_data(1000, 3), key=jr.key(0), num_others=100)
    z = found["z"]
    assert not found.weights.whole
    noise = 5 * z.information.std_error
    assert z.low - noise < CHANNEL.sum() < z.high + noise
    assert z.low <= z.information.value <= z.high
    assert 0 < found.bias < 0.2
    assert "too high, by at most" in str(found)


def test_mixture_weights_have_no_bias():
    """Over all choices of 2 of the 3 others, the mean is the mixture over all four."""
    q = np.array([0.7, 0.1, 0.4, 0.05])
    pairs = [q[[1, 2]], q[[1, 3]], q[[2, 3]]]
    weights = Weights(4, 2)
    found = [np.exp(weights.log_mixture(np.log(q[0]), np.log(p.sum()), weights.own[0])) for p in pairs]
    assert np.mean(found) == pytest.approx(q.mean())
    everything = Weights(4, 3)
    assert everything.whole
    exact = everything.log_mixture(np.log(q[0]), np.log(q[1:].sum()), everything.own[0])
    assert np.exp(exact) == pytest.approx(q.mean())


def test_a_guide_that_does_not_look_at_its_data():
    def blind(x):
        elbax.sample("z", dist.Normal(jnp.zeros(x.shape), 1.0).to_event(1))

    found = elbax.collapse(model, blind, normal_data(50, 2), key=jr.key(0))
    z = found["z"]
    assert abs(z.information.value) < 1e-6
    assert z.verdict is Verdict.COLLAPSED
    assert not z.shared
    assert (
        "site 'z' ignores the data: KL 0.00 nats, mutual information 0.00 ± 0.00 of at most log 50 = 3.9" in z.finding
    )
    assert "free bits" in found.advice("z")
    assert "He et al., 2019" in str(found)


@pytest.mark.slow
def test_almost_nothing():
    """0.00125 nats per unit: seen, and too little."""
    found = elbax.collapse(model, Channel(jnp.full(2, 0.05)), normal_data(200, 2), key=jr.key(0), num_draws=20)
    z = found["z"]
    assert z.information.std_error < 0.0015
    assert abs(z.information.value - 0.0025) < 5 * z.information.std_error + (z.high - z.low)
    assert z.verdict is Verdict.COLLAPSED


def test_one_posterior_for_all_that_is_not_the_prior():
    guide = Channel(jnp.zeros(2), 2.0, jnp.array([0.5, 0.5]))
    found = elbax.collapse(model, guide, normal_data(50, 2), key=jr.key(0))
    z = found["z"]
    kl = 2 * (0.5 * (4 + 0.25 - 1) - np.log(0.5))
    assert z.aggregate.value == pytest.approx(kl, rel=1e-5)
    assert z.verdict is Verdict.COLLAPSED
    assert z.shared
    assert z.active_by_kl.all()
    assert z.active_by_variance is not None
    assert not z.active_by_variance.any()
    assert "All data share one posterior" in found.advice("z")
    assert "free bits or warm-up would not help" in str(found)


def test_every_datum_is_told_from_all_others():
    """Information of N data is at most log N, whatever KL is."""
    guide = Channel(jnp.ones(1), 0.0, jnp.array([1e-4]))
    found = elbax.collapse(model, guide, np.arange(40, dtype=np.float32)[:, None], key=jr.key(0))
    z = found["z"]
    assert z.information.value == pytest.approx(np.log(40), abs=1e-6)
    assert z.saturated
    assert z.high > 100
    assert "near its bound" in str(found)


def with_units(channel, **changes):
    """A finding with other figures."""
    return replace(channel, layers=(replace(channel["z"], **changes),))


def test_partly_collapsed(channel):
    found = with_units(channel, unit_information=np.array([0.8, 0.005, 0.011]), unit_error=np.full(3, 0.001))
    assert found["z"].used.tolist() == [True, False, False]
    assert found["z"].verdict is Verdict.PARTLY
    assert "fewer units" in found.advice("z")


def test_a_prior_that_does_not_look_like_the_codes(channel):
    found = with_units(channel, kl=elbax.Estimate(9.0, 0.1), aggregate=elbax.Estimate(8.0, 0.1))
    assert found["z"].verdict is Verdict.ALIVE
    assert "8.0 nats away from the prior" in found.advice("z")
    assert "richer prior" in str(found)


# --------------------------------------------------------------------------------------- discrete latents

PRIOR = np.array([0.5, 0.3, 0.6])


def binary(x):
    b = elbax.sample("b", dist.Bernoulli(jnp.broadcast_to(jnp.asarray(PRIOR, jnp.float32), x.shape)).to_event(1))
    elbax.observe("x", dist.Normal(1.0 * b, 1.0).to_event(1), x)


def binary_guide(x):
    elbax.sample("b", dist.Bernoulli(logits=x).to_event(1))


def test_bernoulli_by_enumeration():
    logits = np.array([[2.0, 0.1, -1.0], [-1.0, 0.0, -1.0], [0.5, 0.2, -1.0], [-2.0, -0.1, -1.0]], np.float32)
    found = elbax.collapse(binary, binary_guide, logits, key=jr.key(0), num_draws=1000)
    b = found["b"]
    p = 1 / (1 + np.exp(-logits.astype(float)))
    outcomes = np.array(list(np.ndindex(2, 2, 2)))
    q = np.prod(np.where(outcomes[None] == 1, p[:, None], 1 - p[:, None]), -1)  # [n, outcomes]
    prior = np.prod(np.where(outcomes == 1, PRIOR, 1 - PRIOR), -1)
    information = np.mean(np.sum(q * np.log(q / q.mean(0)), 1))
    aggregate = np.sum(q.mean(0) * np.log(q.mean(0) / prior))
    assert b.information.std_error < 0.02
    assert abs(b.information.value - information) < 5 * b.information.std_error
    assert abs(b.aggregate.value - aggregate) < 5 * b.aggregate.std_error
    unit = np.stack([1 - p, p], -1)  # [n, unit, 2]
    by_unit = np.mean(np.sum(unit * np.log(unit / unit.mean(0)), -1), 0)
    assert b.unit_information is not None
    assert b.unit_error is not None
    assert (abs(b.unit_information - by_unit) < 5 * b.unit_error + 1e-6).all()
    assert b.mean_variance is None
    assert b.used.tolist() == [True, False, False]
    assert "-" in str(found)


# ------------------------------------------------------------------------------------------ hierarchies


def two_layers(x):
    upper = elbax.sample("upper", dist.Normal(jnp.zeros(len(x)), 1.0))
    lower = elbax.sample("lower", dist.Normal(0.7 * upper, 0.5))
    elbax.observe("x", dist.Normal(lower, 1.0), x)


class TopDown(eqx.Module):
    """upper = b x + noise t;  lower = a x + c upper + noise s."""

    b: float
    t: float
    a: float
    c: float
    s: float

    def __call__(self, x):
        upper = elbax.sample("upper", dist.Normal(self.b * x, self.t))
        elbax.sample("lower", dist.Normal(self.a * x + self.c * upper, self.s))


class TestHierarchy:
    def test_information_of_each_layer_given_those_above(self):
        guide = TopDown(0.6, 0.8, 1.0, 0.3, 0.5)
        found = elbax.collapse(two_layers, guide, normal_data(500), key=jr.key(0), num_draws=4)
        upper, lower = found["upper"], found["lower"]
        assert (upper.given, lower.given) == ((), ("upper",))
        exact = [0.5 * np.log(1 + (0.6 / 0.8) ** 2), 0.5 * np.log(1 + 1.0 * 0.64 / 0.25)]  # Var(x | upper) = 0.64
        for layer, value in zip((upper, lower), exact, strict=True):
            assert abs(layer.information.value - value) < 5 * layer.information.std_error + 0.02
            assert layer.information.std_error < 0.03
        # The layers' shares add up to that of both, and the variance of the lower mean is that of E[lower | x].
        assert abs(found.information.value - sum(exact)) < 5 * found.information.std_error + 0.02
        assert lower.mean_variance == pytest.approx((1.0 + 0.3 * 0.6) ** 2, rel=0.1)
        assert found.kl.value == pytest.approx(upper.kl.value + lower.kl.value, rel=1e-4)

    @pytest.mark.slow
    def test_upper_layer_collapsed(self):
        found = elbax.collapse(two_layers, TopDown(0.0, 1.0, 1.0, 0.3, 0.5), normal_data(100), key=jr.key(0))
        assert [layer.verdict for layer in found.layers] == [Verdict.COLLAPSED, Verdict.ALIVE]
        assert "The layers below, 'lower', explain the data without it" in found.advice("upper")
        assert "ladder" in str(found)

    @pytest.mark.slow
    def test_lower_layer_that_follows_the_upper_one_only(self):
        """It tells of the data by way of the upper layer; of its own, it says nothing."""
        found = elbax.collapse(two_layers, TopDown(0.9, 0.3, 0.0, 0.7, 0.5), normal_data(100), key=jr.key(0))
        assert [layer.verdict for layer in found.layers] == [Verdict.ALIVE, Verdict.COLLAPSED]
        assert abs(found["lower"].kl.value) < 1e-5
        assert abs(found["lower"].information.value) < 1e-5

    @pytest.mark.slow
    def test_bottom_up(self):
        """The upper layer is drawn from the lower one, which then counts as part of the datum."""

        def bottom_up(x):
            lower = elbax.sample("lower", dist.Normal(0.8 * x, 0.6))
            elbax.sample("upper", dist.Normal(0.5 * lower, 0.5))

        found = elbax.collapse(two_layers, bottom_up, normal_data(500), key=jr.key(0), num_draws=4)
        upper, lower = found["upper"], found["lower"]
        assert (upper.given, lower.given) == ((), ())
        for layer, value in ((upper, 0.5 * np.log(1 + 0.25 / 0.25)), (lower, 0.5 * np.log(1 + 0.64 / 0.36))):
            # Here the lower layer's draws are random data of the upper one: their spread adds to the error.
            assert abs(layer.information.value - value) < 5 * layer.information.std_error + 0.08
        assert not lower.exact
        assert "* sampled" in str(found)


@pytest.mark.slow
def test_steps_of_a_loop_have_no_information_alone():
    def chain(x):
        def step(z, x_t):
            z = elbax.sample("z", dist.Normal(0.9 * z, 1.0))
            elbax.observe("x", dist.Normal(z, 1.0), x_t)
            return z, None

        jax.lax.scan(step, jnp.zeros(len(x)), x.T)

    def guide(x):
        jax.lax.scan(
            lambda z, x_t: (elbax.sample("z", dist.Normal(0.5 * x_t + 0.1 * z, 0.8)), None), jnp.zeros(len(x)), x.T
        )

    found = elbax.collapse(chain, guide, normal_data(60, 4), key=jr.key(0))
    z = found["z"]
    assert z.unit_kl.shape == (4,)
    assert z.unit_information is None
    assert 0 < z.information.value < np.log(60)
    assert z.verdict is Verdict.ALIVE


@pytest.mark.slow
def test_full_covariance_counts_as_one_unit():
    ppca = lg.make_model()
    x = np.asarray(lg.make_data(100), np.float32)
    found = elbax.collapse(ppca, lg.exact_guide(ppca), x, key=jr.key(0), num_draws=8)
    gain, cov = (np.asarray(a) for a in lg.posterior(ppca))
    loc = (x - np.asarray(ppca.offset)) @ gain.T
    kl = 0.5 * (np.trace(cov) - 2 - np.linalg.slogdet(cov)[1] + (loc**2).sum(1))
    z = found["z"]
    assert z.num_units == 1
    assert abs(z.kl.value - kl.mean()) < 5 * z.kl.std_error
    assert z.mean_variance is not None
    assert z.mean_variance.shape == (2,)
    np.testing.assert_allclose(z.mean_variance, loc.var(0), rtol=1e-4)


# --------------------------------------------------------------------------------------------- refusals


def with_shared(x):
    mean = elbax.sample("mean", dist.Normal(0.0, 1.0))
    z = elbax.sample("z", dist.Normal(jnp.full(len(x), mean), 1.0))
    elbax.observe("x", dist.Normal(z, 1.0), x)


def test_latents_of_all_data_are_left_out():
    def guide(x):
        mean = elbax.sample("mean", dist.Normal(0.3, 0.1))
        elbax.sample("z", dist.Normal(mean + 0.8 * x, 0.6))

    found = elbax.collapse(with_shared, guide, normal_data(60), key=jr.key(0), batch_size=25)
    assert [layer.name for layer in found.layers] == ["z"]
    assert "shared by all data" in found.left_out["mean"]
    assert "left out: site 'mean' (" in str(found)
    exact = 0.5 * np.log(1 + 0.64 / 0.36)
    assert abs(found["z"].information.value - exact) < 5 * found["z"].information.std_error + 0.1


class TestRefusals:
    def test_only_shared_latents(self):
        def only(x):
            mean = elbax.sample("mean", dist.Normal(0.0, 1.0))
            elbax.observe("x", dist.Normal(mean, 1.0), x)

        with pytest.raises(ProgramError, match=r"no latent has one row per datum: site 'mean' \(.*\.py:\d+\)"):
            elbax.collapse(only, lambda x: elbax.sample("mean", dist.Normal(0.0, 1.0)), jnp.ones(5), key=jr.key(0))

    def test_no_latents(self):
        def nothing(x):
            elbax.observe("x", dist.Normal(0.0, 1.0), x)

        with pytest.raises(ProgramError, match="no latent sites"):
            elbax.collapse(nothing, lambda x: None, jnp.ones(5), key=jr.key(0))

    def test_data(self):
        guide = Channel(jnp.zeros(2))
        with pytest.raises(DataError, match="array"):
            elbax.collapse(model, guide, None, key=jr.key(0))
        with pytest.raises(DataError, match="empty"):
            elbax.collapse(model, guide, jnp.ones((0, 2)), key=jr.key(0))
        with pytest.raises(DataError, match="at least 2 data"):
            elbax.collapse(model, guide, jnp.ones((1, 2)), key=jr.key(0))

    def test_options(self):
        with pytest.raises(ConfigError, match="num_draws must be at least 2"):
            elbax.collapse(model, Channel(jnp.zeros(2)), jnp.ones((3, 2)), key=jr.key(0), num_draws=1)

    def test_data_that_are_mixed(self):
        def normalised(x):
            elbax.sample("z", dist.Normal(x - x.mean(0), 1.0).to_event(1))

        with pytest.raises(ProgramError, match=r"data influence each other's posteriors.*site 'z'"):
            elbax.collapse(model, normalised, normal_data(30, 2) + 1.0, key=jr.key(0))
