"""One instance of every NumPyro distribution, with parameters that are nothing special.

An instance is a function of a number that moves its parameters, but not its support.
"""

import inspect

import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import transforms

A2, A3 = jnp.array([0.7, 1.6]), jnp.array([0.3, -0.6, 1.1])
P3 = jnp.array([0.2, 0.5, 0.3])
TRIL = jnp.array([[1.1, 0.0], [0.4, 0.8]])
COV = TRIL @ TRIL.T
MIXING = dist.CategoricalProbs(jnp.array([0.3, 0.7]))


# Bases that are not distributions, or that cannot be drawn from.
ABSTRACT = {
    "Distribution", "ExpandedDistribution", "MaskedDistribution", "Independent", "ImproperUniform", "Unit",
    "IntervalCensoredDistribution", "LeftCensoredDistribution", "RightCensoredDistribution", "TransformedDistribution",
}  # fmt: skip

# Which NumPyro 0.22 cannot make: its own error, or a package that it does not require.
UNAVAILABLE = {"HurdleNegativeBinomial2", "GaussianCopulaBeta"}

INSTANCES = {
    "AsymmetricLaplace": lambda s=0.0: dist.AsymmetricLaplace(A2 + s, 1.2, 0.8),
    "AsymmetricLaplaceQuantile": lambda s=0.0: dist.AsymmetricLaplaceQuantile(A2 + s, 1.2, 0.4),
    "Bernoulli": lambda s=0.0: dist.Bernoulli(logits=A2 + s),
    "BernoulliLogits": lambda s=0.0: dist.BernoulliLogits(A2 + s),
    "BernoulliProbs": lambda s=0.0: dist.BernoulliProbs(P3),
    "Beta": lambda s=0.0: dist.Beta(A2 + s + 1, 2.3),
    "BetaBinomial": lambda s=0.0: dist.BetaBinomial(A2 + s, 1.4, 4),
    "BetaNegativeBinomial": lambda s=0.0: dist.BetaNegativeBinomial(A2 + s + 2, 1.4, 3.0),
    "BetaProportion": lambda s=0.0: dist.BetaProportion(P3 + 0.1 * s, 3.0),
    "Binomial": lambda s=0.0: dist.Binomial(4, logits=A2 + s),
    "BinomialLogits": lambda s=0.0: dist.BinomialLogits(A2 + s, 4),
    "BinomialProbs": lambda s=0.0: dist.BinomialProbs(P3, 4),
    "CAR": lambda s=0.0: dist.CAR(
        A3 + s, 0.3, 1.2, jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), is_sparse=False
    ),
    "Categorical": lambda s=0.0: dist.Categorical(logits=A3),
    "CategoricalLogits": lambda s=0.0: dist.CategoricalLogits(A3),
    "CategoricalProbs": lambda s=0.0: dist.CategoricalProbs(P3),
    "Cauchy": lambda s=0.0: dist.Cauchy(A2 + s, 0.7),
    "Chi2": lambda s=0.0: dist.Chi2(A2 + s + 2),
    "CirculantNormal": lambda s=0.0: dist.CirculantNormal(
        s + jnp.array([0.1, 0.2, -0.3, 0.4]), jnp.array([1.0, 0.3, 0.1, 0.3])
    ),
    "Dagum": lambda s=0.0: dist.Dagum(A2 + s + 2, 3.0, 1.3),
    "Delta": lambda s=0.0: dist.Delta(A2),
    "DirichletMultinomial": lambda s=0.0: dist.DirichletMultinomial(P3 * 5, 4),
    "Dirichlet": lambda s=0.0: dist.Dirichlet(P3 * 5 + s),
    "DiscreteUniform": lambda s=0.0: dist.DiscreteUniform(0, 3),
    "DoublyTruncatedPowerLaw": lambda s=0.0: dist.DoublyTruncatedPowerLaw(s - 1.5, 0.5, 3.0),
    "EulerMaruyama": lambda s=0.0: dist.EulerMaruyama(
        jnp.arange(4.0) / 4, lambda x, t: (-0.5 * x, 0.7 + 0 * x), dist.Normal(0.3, 1.0)
    ),
    "Exponential": lambda s=0.0: dist.Exponential(A2 + s),
    "FoldedDistribution": lambda s=0.0: dist.FoldedDistribution(dist.Normal(A2 + s, 0.8)),
    "Gamma": lambda s=0.0: dist.Gamma(A2 + s + 1, 1.4),
    "GammaPoisson": lambda s=0.0: dist.GammaPoisson(A2 + s + 1, 1.4),
    "GaussianCopula": lambda s=0.0: dist.GaussianCopula(dist.Normal(A2 + s, 1.2), jnp.array([[1.0, 0.3], [0.3, 1.0]])),
    "GaussianRandomWalk": lambda s=0.0: dist.GaussianRandomWalk(0.7 + s, 4),
    "GaussianStateSpace": lambda s=0.0: dist.GaussianStateSpace(4, TRIL * (0.5 + s), scale_tril=TRIL),
    "Geometric": lambda s=0.0: dist.Geometric(P3),
    "GeometricLogits": lambda s=0.0: dist.GeometricLogits(A2 + s),
    "GeometricProbs": lambda s=0.0: dist.GeometricProbs(P3),
    "Gompertz": lambda s=0.0: dist.Gompertz(A2 + s, 1.3),
    "Gumbel": lambda s=0.0: dist.Gumbel(A2 + s, 1.2),
    "HalfCauchy": lambda s=0.0: dist.HalfCauchy(A2 + s),
    "HalfNormal": lambda s=0.0: dist.HalfNormal(A2 + s),
    "HurdleDistribution": lambda s=0.0: dist.HurdleDistribution(dist.Poisson(2.0), gate=0.3),
    "HurdleGamma": lambda s=0.0: dist.HurdleGamma(P3, 2.0, 1.4),
    "HurdleLogNormal": lambda s=0.0: dist.HurdleLogNormal(P3, 0.2, 0.4),
    "HurdleLogits": lambda s=0.0: dist.HurdleLogits(dist.Poisson(2.0), gate_logits=0.3),
    "HurdlePoisson": lambda s=0.0: dist.HurdlePoisson(P3, 2.0),
    "HurdleProbs": lambda s=0.0: dist.HurdleProbs(dist.Poisson(2.0), gate=0.3),
    "InverseGamma": lambda s=0.0: dist.InverseGamma(A2 + s + 2, 1.4),
    "InverseWishart": lambda s=0.0: dist.InverseWishart(5.0, scale_matrix=COV),
    "InverseWishartCholesky": lambda s=0.0: dist.InverseWishartCholesky(5.0, scale_matrix=COV),
    "Kumaraswamy": lambda s=0.0: dist.Kumaraswamy(A2 + s + 1, 1.5),
    "LKJ": lambda s=0.0: dist.LKJ(3, 1.4 + s),
    "LKJCholesky": lambda s=0.0: dist.LKJCholesky(3, 1.4 + s),
    "Laplace": lambda s=0.0: dist.Laplace(A2 + s, 0.8),
    "LeftTruncatedDistribution": lambda s=0.0: dist.LeftTruncatedDistribution(dist.Normal(A2 + s, 0.8), 0.2),
    "LeftTruncatedGamma": lambda s=0.0: dist.LeftTruncatedGamma(dist.Gamma(A2 + s + 1, 1.4), 0.3),
    "Levy": lambda s=0.0: dist.Levy(A2 + s, 0.7),
    "LogNormal": lambda s=0.0: dist.LogNormal(A2 + s, 0.4),
    "LogUniform": lambda s=0.0: dist.LogUniform(0.4, A2 + 1),
    "Logistic": lambda s=0.0: dist.Logistic(A2 + s, 0.8),
    "LowRankMultivariateNormal": lambda s=0.0: dist.LowRankMultivariateNormal(A2 + s, A2[:, None], A2),
    "LowerTruncatedPowerLaw": lambda s=0.0: dist.LowerTruncatedPowerLaw(s - 2.5, 0.6),
    "MatrixNormal": lambda s=0.0: dist.MatrixNormal(s + jnp.zeros((2, 2)), TRIL, 0.7 * TRIL),
    "Mixture": lambda s=0.0: dist.Mixture(MIXING, [dist.Normal(0.2, 1.0), dist.Normal(1.5, 0.6)]),
    "MixtureGeneral": lambda s=0.0: dist.MixtureGeneral(MIXING, [dist.Normal(0.2, 1.0), dist.Normal(1.5, 0.6)]),
    "MixtureSameFamily": lambda s=0.0: dist.MixtureSameFamily(MIXING, dist.Normal(A2 + s, 0.8)),
    "Multinomial": lambda s=0.0: dist.Multinomial(4, probs=P3),
    "MultinomialLogits": lambda s=0.0: dist.MultinomialLogits(A3, 4),
    "MultinomialProbs": lambda s=0.0: dist.MultinomialProbs(P3, 4),
    "MultivariateNormal": lambda s=0.0: dist.MultivariateNormal(A2 + s, covariance_matrix=COV),
    "MultivariateStudentT": lambda s=0.0: dist.MultivariateStudentT(4.0 + s, A2, TRIL),
    "NegativeBinomial": lambda s=0.0: dist.NegativeBinomial(3.0, probs=P3),
    "NegativeBinomial2": lambda s=0.0: dist.NegativeBinomial2(A2 + s, 1.7),
    "NegativeBinomialLogits": lambda s=0.0: dist.NegativeBinomialLogits(3.0, A2 + s),
    "NegativeBinomialProbs": lambda s=0.0: dist.NegativeBinomialProbs(3.0, P3),
    "Normal": lambda s=0.0: dist.Normal(A2 + s, 0.8),
    "OrderedLogistic": lambda s=0.0: dist.OrderedLogistic(A2 + s, jnp.array([-0.4, 0.9])),
    "Pareto": lambda s=0.0: dist.Pareto(A2, 3.0 + s),
    "Poisson": lambda s=0.0: dist.Poisson(A2 + s + 1),
    "ProjectedNormal": lambda s=0.0: dist.ProjectedNormal(A2 + s),
    "RelaxedBernoulli": lambda s=0.0: dist.RelaxedBernoulli(jnp.array(0.6), logits=A2 + s),
    "RelaxedBernoulliLogits": lambda s=0.0: dist.RelaxedBernoulliLogits(jnp.array(0.6), A2 + s),
    "RightTruncatedDistribution": lambda s=0.0: dist.RightTruncatedDistribution(dist.Normal(A2 + s, 0.8), 1.2),
    "RightTruncatedGamma": lambda s=0.0: dist.RightTruncatedGamma(dist.Gamma(A2 + s + 1, 1.4), 2.3),
    "SineBivariateVonMises": lambda s=0.0: dist.SineBivariateVonMises(0.3, -0.4, 1.5, 1.2, correlation=0.6),
    "SineSkewed": lambda s=0.0: dist.SineSkewed(
        dist.SineBivariateVonMises(0.3, -0.4, 1.5, 1.2, correlation=0.6), jnp.array([0.2, 0.3])
    ),
    "SoftLaplace": lambda s=0.0: dist.SoftLaplace(A2 + s, 0.8),
    "StudentT": lambda s=0.0: dist.StudentT(5.0 + s, A2, 0.8),
    "TruncatedCauchy": lambda s=0.0: dist.TruncatedCauchy(A2 + s, 0.7, low=0.1),
    "TruncatedDistribution": lambda s=0.0: dist.TruncatedDistribution(dist.Normal(A2 + s, 0.7), low=0.1),
    "TruncatedNormal": lambda s=0.0: dist.TruncatedNormal(A2 + s, 0.7, low=0.1, high=2.0),
    "TruncatedPolyaGamma": lambda s=0.0: dist.TruncatedPolyaGamma(),
    "TwoSidedTruncatedDistribution": lambda s=0.0: dist.TwoSidedTruncatedDistribution(
        dist.Normal(A2 + s, 0.8), 0.1, 1.9
    ),
    "TruncatedGamma": lambda s=0.0: dist.TruncatedGamma(A2 + s + 1, 1.4, low=0.3),
    "TwoSidedTruncatedGamma": lambda s=0.0: dist.TwoSidedTruncatedGamma(dist.Gamma(A2 + s + 1, 1.4), 0.3, 2.0),
    "Uniform": lambda s=0.0: dist.Uniform(0.2, A2 + 1),
    "VonMises": lambda s=0.0: dist.VonMises(A2 + s, 1.4),
    "Weibull": lambda s=0.0: dist.Weibull(A2 + s, 2.0),
    "Wishart": lambda s=0.0: dist.Wishart(4.0, scale_matrix=COV),
    "WishartCholesky": lambda s=0.0: dist.WishartCholesky(4.0, scale_matrix=COV),
    "ZeroInflatedDistribution": lambda s=0.0: dist.ZeroInflatedDistribution(dist.Poisson(2.0), gate=0.3),
    "ZeroInflatedLogits": lambda s=0.0: dist.ZeroInflatedLogits(dist.Poisson(2.0), gate_logits=A2 + s),
    "ZeroInflatedNegativeBinomial2": lambda s=0.0: dist.ZeroInflatedNegativeBinomial2(2.0, 1.5, gate=0.3),
    "ZeroInflatedPoisson": lambda s=0.0: dist.ZeroInflatedPoisson(P3, 2.0),
    "ZeroInflatedProbs": lambda s=0.0: dist.ZeroInflatedProbs(dist.Poisson(2.0), gate=0.3),
    "ZeroSumNormal": lambda s=0.0: dist.ZeroSumNormal(0.8 + s, (3,)),
    "expanded": lambda s=0.0: dist.Gamma(A2 + s + 1, 1.4).expand((3, 2)),
    "independent": lambda s=0.0: dist.Normal(A3 + s, 0.8).to_event(1),
    "masked": lambda s=0.0: dist.Normal(A3 + s, 0.8).mask(jnp.array([True, False, True])),
    "transformed": lambda s=0.0: dist.TransformedDistribution(
        dist.Normal(A2 + s, 0.8), [transforms.AffineTransform(0.3, 1.4), transforms.SigmoidTransform()]
    ),
    "transformed mixture": lambda s=0.0: dist.TransformedDistribution(
        dist.MixtureSameFamily(MIXING, dist.Normal(A2, 0.8)), transforms.ExpTransform()
    ),
}


def public_names():
    """Names of the distributions that NumPyro offers, functions that make one included."""

    def is_one(name, value):
        own = name[0].isupper() and getattr(value, "__module__", "").startswith("numpyro.distributions")
        return own and callable(value) and (not inspect.isclass(value) or issubclass(value, dist.Distribution))

    return {name for name, value in vars(dist).items() if is_one(name, value)} - ABSTRACT - UNAVAILABLE
