"""Pathwise gradients: the draw is a differentiable function of the parameters and of noise."""

from __future__ import annotations

from typing import Any, ClassVar

import jax

from elbax.estimators.base import Draw, Estimator, LogProb, Site
from elbax.estimators.couplings import Coupling, are_uniforms, coupled_sample
from elbax.estimators.implicit import has_implicit, implicit_sample
from elbax.graph.distributions import Lifted
from elbax.graph.draws import jumps_in_draw

__all__ = ["Pathwise"]


class Pathwise(Estimator):
    """Differentiates through the draw, `z = z(theta, noise)`: `grad E f(z) = E f'(z) dz/dtheta`.

    Explicit reparameterisation where the distribution has one (Normal), implicit otherwise: Gamma, Beta, Dirichlet,
    Student, as numpyro and JAX provide it; mixtures of factorised components and the von Mises by way of their
    distribution functions (on a circle, the cost must be the same at both ends). One forward and one backward pass; the
    lowest variance for smooth costs. Valid if the costs depend on the draw differentiably: not through `floor`,
    `argmax`, a comparison or a branch.

    Attributes:
        stick: stick the landing: in costs made of the node's own log-density, hold its parameters fixed. That leaves
            out a term of expectation zero; the gradient then vanishes, draw by draw, where q is the exact posterior,
            but may vary more far from it.
        draws: how the draws of several runs of the whole program are coupled; one run by default. Derivatives then
            flow through the inverse of the distribution function, which the distribution must have.

    References:
        Kingma & Welling, Auto-Encoding Variational Bayes, ICLR 2014. Figurnov et al., Implicit Reparameterization
        Gradients, NeurIPS 2018. Roeder et al., Sticking the Landing, NeurIPS 2017 (`stick`).
    """

    stick: bool = False
    draws: Coupling | None = None

    pathwise: ClassVar[bool] = True
    needs_credit: ClassVar[bool] = False

    @property
    def by_density(self) -> bool:  # type: ignore[override]
        """With `stick`: what it leaves out has expectation zero only if the density shows all that moves the draw."""
        return self.stick

    @property
    def num_replicas(self) -> int:
        """Those that the coupling asks for."""
        return 1 if self.draws is None else self.draws.num

    def coupled(self, key: jax.Array, num_replicas: int, site: Site) -> Any:
        """The uniform numbers of a coupling."""
        return None if self.draws is None else self.draws.uniforms(key, site)

    def requires(self, site: Site) -> str | None:
        """Needs draws that are differentiable in the parameters; `stick`, that the log-density is a summand."""
        dist = site.dist
        if (dist.has_rsample and not jumps_in_draw(dist)) or has_implicit(dist):
            if self.stick and site.log_prob is LogProb.FULL:
                return (
                    "the bound has several particles inside the logarithm, where the term that sticking the landing "
                    "leaves out does not have expectation zero (`elbax.Pathwise()` is valid there)"
                )
            return None if self.draws is None else self.draws.requires(site)
        if dist.has_rsample:
            return f"its distribution {dist.name} says that it is reparameterised, but its draws jump or stay put"
        kind = "discrete" if dist.is_discrete else "not reparameterised"
        return f"its distribution {dist.name} is {kind}: draws are not differentiable in the parameters"

    def draw(self, key: jax.Array, dist: Lifted, log_prob: LogProb) -> Draw:
        """A reparameterised draw."""
        if are_uniforms(self.draws, key):
            value = coupled_sample(dist, key)
        elif not dist.has_rsample:
            value = implicit_sample(dist, key)
        elif self.stick or log_prob is LogProb.UNUSED:
            value = dist.rsample(key)
        else:
            return Draw(*dist.draw_with_log_prob(key, differentiable=True))
        if log_prob is LogProb.UNUSED:
            return Draw(value, None)
        # The density of a Delta is the Jacobian of what made it from another draw: no score, so nothing to leave out.
        return Draw(value, (dist.stopped() if self.stick and dist.name != "Delta" else dist).log_prob(value))
