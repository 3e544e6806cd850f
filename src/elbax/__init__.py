"""elbax: the evidence lower bound, made trustworthy. One line per public name, in the order of the pipeline."""

# bounds
from elbax.bounds.base import Bound as Bound
from elbax.bounds.elbo import ELBO as ELBO
from elbax.bounds.gradients import VIMCO as VIMCO
from elbax.bounds.gradients import ByDensity as ByDensity
from elbax.bounds.gradients import DReG as DReG
from elbax.bounds.importance import CIWAE as CIWAE
from elbax.bounds.importance import IWAE as IWAE
from elbax.bounds.importance import PIWAE as PIWAE
from elbax.bounds.kl_terms import BetaKL as BetaKL
from elbax.bounds.kl_terms import Capacity as Capacity
from elbax.bounds.kl_terms import Cyclic as Cyclic
from elbax.bounds.kl_terms import FreeBits as FreeBits
from elbax.bounds.particles import Total as Total
from elbax.bounds.renyi import CUBO as CUBO
from elbax.bounds.renyi import Renyi as Renyi
from elbax.bounds.thermodynamic import TVO as TVO
from elbax.bounds.wake import RWS as RWS

# diagnose
from elbax.diagnose.bracket import Bracket as Bracket
from elbax.diagnose.bracket import bracket as bracket
from elbax.diagnose.estimate import Estimate as Estimate
from elbax.diagnose.evaluate import Evaluation as Evaluation
from elbax.diagnose.evaluate import evaluate as evaluate
from elbax.diagnose.gap import Gap as Gap
from elbax.diagnose.gap import gap as gap
from elbax.diagnose.latents import LatentSummary as LatentSummary
from elbax.diagnose.latents import latent_summary as latent_summary

# distributions
from elbax.distributions import HypersphericalUniform as HypersphericalUniform
from elbax.distributions import OneHotCategorical as OneHotCategorical
from elbax.distributions import PowerSpherical as PowerSpherical
from elbax.distributions import VonMisesFisher as VonMisesFisher
from elbax.errors import ConfigError as ConfigError
from elbax.errors import DataError as DataError
from elbax.errors import ElbaxError as ElbaxError
from elbax.errors import EstimatorError as EstimatorError
from elbax.errors import NonFiniteError as NonFiniteError
from elbax.errors import ProgramError as ProgramError
from elbax.errors import RunError as RunError
from elbax.errors import SiteMismatchError as SiteMismatchError

# estimators
from elbax.estimators.antithetic import ARM as ARM
from elbax.estimators.antithetic import ARMS as ARMS
from elbax.estimators.antithetic import DisARM as DisARM
from elbax.estimators.auto import Auto as Auto
from elbax.estimators.base import Estimator as Estimator
from elbax.estimators.baselines import Learned as Learned
from elbax.estimators.baselines import MovingAverage as MovingAverage
from elbax.estimators.carms import CARMS as CARMS
from elbax.estimators.couplings import Antithetic as Antithetic
from elbax.estimators.couplings import QuasiMonteCarlo as QuasiMonteCarlo
from elbax.estimators.double_cv import DoubleCV as DoubleCV
from elbax.estimators.enumerate import Enumerate as Enumerate
from elbax.estimators.fini import Fini as Fini
from elbax.estimators.fixed import Fixed as Fixed
from elbax.estimators.gumbel import GumbelRao as GumbelRao
from elbax.estimators.gumbel import GumbelSoftmax as GumbelSoftmax
from elbax.estimators.lab.compare import compare_estimators as compare_estimators
from elbax.estimators.leave_one_out import RLOO as RLOO
from elbax.estimators.leave_one_out import Replicas as Replicas
from elbax.estimators.measure_valued import MeasureValued as MeasureValued
from elbax.estimators.pathwise import Pathwise as Pathwise
from elbax.estimators.rebar import REBAR as REBAR
from elbax.estimators.rebar import RELAX as RELAX
from elbax.estimators.rodeo import RODEO as RODEO
from elbax.estimators.score import NoBaseline as NoBaseline
from elbax.estimators.score import Score as Score
from elbax.estimators.score import Stated as Stated
from elbax.estimators.straight_through import Gapped as Gapped
from elbax.estimators.straight_through import ReinMax as ReinMax
from elbax.estimators.straight_through import StraightThrough as StraightThrough
from elbax.estimators.surrogate import surrogate as surrogate
from elbax.estimators.surrogate import trace as trace
from elbax.estimators.surrogate import value_and_grad as value_and_grad
from elbax.estimators.tree import DisARMTree as DisARMTree
from elbax.estimators.unordered import Unordered as Unordered

# fit
from elbax.fit.fit import fit as fit
from elbax.fit.result import Fit as Fit
from elbax.fit.stopping import Outcome as Outcome
from elbax.fit.stopping import Patience as Patience
from elbax.fit.stopping import Stationary as Stationary
from elbax.fit.stopping import Stopping as Stopping

# graph
from elbax.graph.graph import Graph as Graph
from elbax.graph.graph import Node as Node
from elbax.graph.graph import Relation as Relation

# program
from elbax.graph.sites import baseline as baseline
from elbax.graph.sites import cost as cost
from elbax.graph.sites import observe as observe
from elbax.graph.sites import sample as sample
from elbax.graph.sites import scope as scope

# interop
from elbax.interop.numpyro import from_numpyro as from_numpyro
