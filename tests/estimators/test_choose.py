"""Which estimator a node gets, and which it may not have."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from jax import lax

import elbax
from elbax import EstimatorError, Pathwise, Score
from elbax.estimators.choose import describe
from tests.graph.lines import at
from tests.oracles import programs


def normal(name, loc):
    return elbax.sample(name, dist.Normal(loc, 1.0))


class Flips(dist.Distribution):
    """A sign with a bias; it declares no parameters, so NumPyro takes its draws for differentiable in all of them."""

    pytree_data_fields = ("logit",)

    def __init__(self, logit):
        self.logit = logit
        super().__init__(jnp.shape(logit), ())

    @property
    def support(self):
        return dist.constraints.real

    def sample(self, key, sample_shape=()):
        assert key is not None
        uniform = jax.random.uniform(key, sample_shape + self.batch_shape)
        return jnp.where(uniform < jax.nn.sigmoid(self.logit), 1.0, -1.0)

    def log_prob(self, value, intermediates=None):
        return jax.nn.log_sigmoid(value * self.logit)


def plan(program, *args):
    """The kind of estimator of each node; all that do not differentiate through the draw are of one kind."""
    chosen = {name: text.split("(")[0] for name, text in elbax.trace(program, *(args or (0.3,))).plan.items()}
    return {name: "score" if kind in ("Score", "RLOO", "Enumerate") else kind for name, kind in chosen.items()}


# ------------------------------------------------------------------------------------------ by rule

SMOOTH = {
    "square": lambda z: z**2,
    "relu": jax.nn.relu,
    "softplus and friends": lambda z: jax.nn.softplus(z) + jax.nn.gelu(z) + jnp.logaddexp(z, 0.0) + jnp.abs(z),
    "logsumexp": lambda z: jax.nn.logsumexp(jnp.stack([z, 2 * z])),
    "maximum": lambda z: jnp.maximum(z, 0.3) + jnp.clip(z, -1.0, 1.0),
    "sort": lambda z: jnp.sort(jnp.stack([z, -z]))[0],
    "half precision": lambda z: (z.astype(jnp.bfloat16) ** 2).astype(float),
    "loop": lambda z: lax.scan(lambda c, _: (c * z, c), 1.0, None, length=3)[0],
    "branch on something else": lambda z: lax.cond(jnp.array(1.0) > 0, jnp.sin, jnp.cos, z),
    "checkpoint": lambda z: jax.checkpoint(jnp.sin)(z),
    "own derivative rule": lambda z: _straight_through(z),
    "stopped on one of two paths": lambda z: z * lax.stop_gradient(z),
    "a test for NaN": lambda z: jnp.where(jnp.isnan(z), 0.0, z) + jnp.where(jnp.isfinite(z), z, 0.0),
}


@jax.custom_jvp
def _straight_through(z):
    return jnp.round(z)


_straight_through.defjvp(lambda primals, tangents: (_straight_through(*primals), tangents[0]))

JUMPS = {
    "floor": lambda z: jnp.floor(z),
    "floor and a smooth path": lambda z: jnp.floor(z) + z,
    "comparison": lambda z: (z > 0).astype(float),
    "comparison times itself": lambda z: (z > 0) * z,
    "integer": lambda z: z.astype(int).astype(float),
    "argmax": lambda z: jnp.arange(2.0)[jnp.argmax(jnp.stack([z, 0.3]))],
    "sign": lambda z: jnp.sign(z),
    "remainder": lambda z: z % 1.0,
    "branch": lambda z: lax.cond(z > 0, jnp.sin, jnp.cos, z),
    "number of steps": lambda z: lax.while_loop(lambda c: c < z, lambda c: c + 1, 0.0),
    "stop_gradient": lax.stop_gradient,
    "case without a derivative": lambda z: jnp.where(z > 0, 1.0, 2.0),
    "sort order": lambda z: jnp.argsort(jnp.stack([z, 0.3]))[0].astype(float),
    "a jump of a later parameter": lambda z: normal("later", jnp.floor(z)) + z,
    "a branch with a site": lambda z: lax.cond(z > 0, lambda: normal("later", 0.3), lambda: 0.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_pathwise_where_costs_are_smooth(name):
    assert plan(lambda t: SMOOTH[name](normal("z", t)))["z"] == "Pathwise"


@pytest.mark.parametrize("name", JUMPS)
def test_score_where_costs_jump(name):
    assert plan(lambda t: JUMPS[name](normal("z", t)))["z"] == "score"


def test_reasons_name_the_operation_and_its_line():
    def program(t):
        z = normal("z", t)
        return jnp.floor(z)  # <- floor

    assert f"it goes through `floor` ({at(__file__, 'floor')}), which jumps" in elbax.trace(program, 0.3).plan["z"]


@pytest.mark.parametrize(
    ("d", "expected"),
    [
        (lambda t: dist.Gamma(1 + t, 1.0), "Pathwise"),
        (lambda t: dist.Bernoulli(logits=t), "score"),
        (lambda t: dist.VonMises(t, 1.0), "score"),
        (
            lambda t: dist.MixtureSameFamily(
                dist.Categorical(logits=jnp.stack([t, 0.0])), dist.Normal(jnp.zeros(2), 1)
            ),
            "Pathwise",
        ),
        (lambda t: Flips(t), "score"),
        (lambda t: dist.Normal(0.0, 1.0), "Fixed"),
    ],
)
def test_by_distribution(d, expected):
    assert plan(lambda t: 1.0 * elbax.sample("z", d(t)))["z"] == expected


def test_a_stated_baseline_makes_a_score_node():
    def program(t):
        elbax.baseline("z", t)
        return normal("z", t) ** 2

    assert plan(program)["z"] == "score"


def test_a_score_node_in_between_hands_the_derivative_on():
    def program(t):
        z = normal("z", t)
        b = elbax.sample("b", dist.Bernoulli(logits=z))
        return jnp.where(b == 1, 1.0, 2.0)

    assert plan(program) == {"z": "Pathwise", "b": "score"}


def test_a_chain_of_pathwise_nodes_hands_the_derivative_on():
    def program(t):
        z = normal("z0", t)
        for i in range(1, 4):
            z = normal(f"z{i}", z)
        return z**2

    assert set(plan(program).values()) == {"Pathwise"}


def test_a_node_that_ends_a_derivative_gives_way_and_not_those_above():
    def program(t):
        a = normal("a", t)
        b = normal("b", a)
        return lax.stop_gradient(b) ** 2

    assert plan(program) == {"a": "Pathwise", "b": "score"}


def test_an_earlier_node_of_a_loop_hands_on_the_derivative_of_a_later_one():
    def program(t):
        def body(c, _):
            v = normal("v", c)
            w = normal("w", v)  # reaches a cost only by way of the next step's v
            return w, v**2

        return lax.scan(body, t, None, length=3)[1]

    assert plan(program) == {"v": "Pathwise", "w": "Pathwise"}
    elbax.value_and_grad(program, Pathwise())(jax.random.key(0), 0.3)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (programs.single, {"b": "Enumerate() "}),
        (programs.plate, {"b": "Enumerate() "}),
        (programs.two_layers, {"h": "Enumerate() ", "v": "Enumerate() "}),
        (programs.windowed, {"b": "RLOO(num_samples=4) "}),
        (programs.chain, {"s": "Score() "}),
        (programs.categorical_chain, {"a": "Enumerate() ", "b": "Enumerate() "}),
        (programs.continuous_then_discrete, {"z": "Pathwise() ", "b": "Enumerate() "}),
    ],
    ids=lambda p: getattr(p, "__name__", ""),
)
def test_kinds_of_score_nodes(program, expected):
    """Few outcomes are summed out, loops have reward-to-go, the rest leave-one-out."""
    for name, text in elbax.trace(program, jnp.asarray(programs.THETA)).plan.items():
        assert text.startswith(expected[name]), text


@pytest.mark.parametrize("n", [16, 17])
def test_many_nodes_do_not_probe(n):
    def program(theta):
        x = theta
        for i in range(n):
            x = 1.0 * elbax.sample(f"b{i}", dist.Bernoulli(logits=x))
        return x

    kinds = {text.split("(")[0] for text in elbax.trace(program, 0.3).plan.values()}
    assert kinds == ({"Enumerate"} if n == 16 else {"Score"})


def test_options_of_the_rule():
    def described(rule):
        return elbax.surrogate(programs.two_layers, rule).plan((jnp.asarray(programs.THETA),), {})[0].graph.plan

    assert described(elbax.Auto(max_evaluations=2, num_samples=3))["h"].startswith("RLOO(num_samples=3) ")
    assert described({"h": elbax.Auto(max_evaluations=2)})["h"].startswith("RLOO(num_samples=4) ")
    assert described({"h": elbax.Auto(max_evaluations=2)})["v"].startswith("Enumerate() ")


# ------------------------------------------------------------------------------------------ chosen by the user


def test_pathwise_is_refused_for_a_discrete_node():
    def program(t):
        b = elbax.sample("b", dist.Bernoulli(logits=t))  # <- discrete
        return 2.0 * b

    line = at(__file__, "discrete")
    with pytest.raises(EstimatorError, match=rf"site 'b' \({line}\) cannot use Pathwise\(\): .* Bernoulli is discrete"):
        elbax.value_and_grad(program, Pathwise())(jax.random.key(0), 0.3)


def test_pathwise_is_refused_for_draws_that_only_claim_to_be_differentiable():
    def program(t):
        return elbax.sample("z", Flips(t)) ** 2

    message = r"site 'z' \(test_choose.py:\d+\) .* Flips says that it is reparameterised, but its draws jump"
    with pytest.raises(EstimatorError, match=message):
        elbax.value_and_grad(program, {"z": Pathwise()})(jax.random.key(0), 0.3)


@pytest.mark.parametrize(
    ("cost", "why"),
    [
        (jnp.floor, "`floor`"),
        (lambda z: (z > 0).astype(float), "`gt`"),
        (lambda z: jnp.argmax(jnp.stack([z, 0.3])).astype(float), "`argmax`"),
        (lambda z: jnp.where(z > 0, 1.0, 2.0), "stop_gradient|gt"),
        (lax.stop_gradient, "a stop_gradient lies on every path"),
    ],
)
def test_pathwise_is_refused_where_no_derivative_arrives(cost, why):
    def program(t):
        return cost(normal("z", t))

    message = rf"(?s)site 'z' \(test_choose.py:\d+\) is Pathwise\(\), .* cost 'loss' .*({why}).* Use `elbax.Score\(\)`"
    with pytest.raises(EstimatorError, match=message):
        elbax.value_and_grad(program, {"z": Pathwise()})(jax.random.key(0), 0.3)


def test_pathwise_is_allowed_where_some_derivative_arrives():
    def program(t):
        z = normal("z", t)
        return jnp.floor(z) + z

    elbax.value_and_grad(program, {"z": Pathwise()})(jax.random.key(0), 0.3)


def test_an_estimator_for_no_site_names_the_nearest():
    def program(t):
        return normal("z", t)

    message = r"names 'zz', but .*program` has no such sample site. Did you mean 'z'"
    with pytest.raises(EstimatorError, match=message):
        elbax.surrogate(program, {"zz": Score()})(jax.random.key(0), 0.3)


@pytest.mark.parametrize("spec", [Score, {"z": Score}, {"z": "score"}, "score", 3])
def test_what_is_no_estimator_is_refused(spec):
    with pytest.raises(EstimatorError, match=r"elbax.Score\(\)"):
        elbax.surrogate(lambda t: normal("z", t), spec)(jax.random.key(0), 0.3)


def test_estimators_are_described_as_they_are_written():
    assert describe(Pathwise()) == "Pathwise()"
    assert describe(Pathwise(stick=True)) == "Pathwise(stick=True)"
    assert describe(Score(baseline=elbax.NoBaseline())) == "Score(baseline=NoBaseline())"

    class Own(Score):
        weight: jax.Array | None = None

    assert describe(Own(weight=jnp.ones(2))).startswith("Own(weight=")
