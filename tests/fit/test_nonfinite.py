"""The address of a NaN: which site, which term, which rows, which line."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import elbax
from elbax.errors import NonFiniteError

X = np.linspace(-1.0, 1.0, 20, dtype=np.float32)


def guide(a, x):
    elbax.sample("z", dist.Normal(a * x, 0.5))


def run(model, guide=guide, x=X, **options):
    options = {"optimizer": optax.sgd(1e-3), "max_steps": 200, "batch_size": 20, "log_every": 10} | options
    return elbax.fit(
        eqx.Partial(model, jnp.array(1.0)), eqx.Partial(guide, jnp.array(0.5)), x, key=jr.key(0), **options
    )


def test_cost_with_its_rows():
    """The log-density of the rows whose scale is not a number."""

    def model(w, x):
        z = elbax.sample("z", dist.Normal(jnp.zeros(x.shape), 1.0))
        elbax.observe("x", dist.Normal(z * w, jnp.sqrt(0.9 - x)), x)

    with pytest.raises(NonFiniteError, match=r"step 0: cost '-log p\(x\)' \(test_nonfinite.py:\d+\)") as caught:
        run(model)
    assert "in rows" in str(caught.value)
    assert "(1 of 20 elements)" in str(caught.value)


def test_parameter_of_a_site():
    def bad_guide(a, x):
        elbax.sample("z", dist.Normal(a * x, jnp.log(a - 0.6)))

    def model(w, x):
        z = elbax.sample("z", dist.Normal(jnp.zeros(x.shape), 1.0))
        elbax.observe("x", dist.Normal(z * w, 1.0), x)

    with pytest.raises(NonFiniteError, match=r"the parameter 'scale' of site 'z' \(test_nonfinite.py:\d+\)"):
        run(model, bad_guide)


def test_gradient_of_a_parameter():
    """The value is finite, the derivative of the square root at zero is not."""

    def model(w, x):
        z = elbax.sample("z", dist.Normal(jnp.zeros(x.shape), 1.0))
        elbax.observe("x", dist.Normal(z + jnp.sqrt(0.0 * w), 1.0), x)

    with pytest.raises(
        NonFiniteError, match=r"step 0: the gradient of parameter model.args\[0\].*a derivative has a pole"
    ):
        run(model)


def test_later_step_and_last_good_state(tmp_path):
    """The scale falls by a fixed amount per step and its logarithm fails after some: the step is named exactly."""

    def model(w, x):
        z = elbax.sample("z", dist.Normal(jnp.zeros(x.shape), 1.0))
        elbax.observe("x", dist.Normal(z, 1.0), x)
        elbax.cost("push", (w + 0 * jnp.log(w)) * jnp.ones(x.shape))

    with pytest.raises(NonFiniteError, match="The last good state") as caught:
        run(model, optimizer=optax.sgd(0.001), checkpoint=tmp_path, max_steps=1200)
    # The derivative of the loss is 1 per datum: w falls by 0.001 per step from 1.
    fitted = caught.value.fit  # type: ignore[attr-defined]
    step = int(str(caught.value).split("step ")[1].split(":")[0])
    assert 995 <= step <= 1001
    assert fitted.outcome is elbax.Outcome.NON_FINITE
    assert fitted.steps in (step - 1, step)
    assert np.isfinite(float(fitted.state.params.model.args[0]))
    assert len(list(tmp_path.glob("*.ckpt"))) >= 1


def test_returned_instead_of_raised():
    def model(w, x):
        z = elbax.sample("z", dist.Normal(jnp.zeros(x.shape), 1.0))
        elbax.observe("x", dist.Normal(z, jnp.sqrt(w - 2.0)), x)

    fitted = run(model, throw=False)
    assert fitted.outcome is elbax.Outcome.NON_FINITE
    assert fitted.steps == 0
