"""`elbax` on the command line."""

from elbax.cli import data as data
from elbax.cli import doctor as doctor
from elbax.cli import estimators as estimators
from elbax.cli import evaluate as evaluate
from elbax.cli import fit as fit
from elbax.cli import graph as graph
from elbax.cli import report as report
from elbax.cli.app import app as app
from elbax.cli.app import main as main
