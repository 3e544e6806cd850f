"""Images to train on: named sets, files of one's own, and how grey pixels become binary ones."""

from elbax.data.dataset import DataFile as DataFile
from elbax.data.dataset import Dataset as Dataset
from elbax.data.inventory import Entry as Entry
from elbax.data.inventory import FileReport as FileReport
from elbax.data.inventory import available as available
from elbax.data.inventory import check as check
from elbax.data.inventory import get as get
from elbax.data.levels import AsIs as AsIs
from elbax.data.levels import Binarisation as Binarisation
from elbax.data.levels import Dynamic as Dynamic
from elbax.data.levels import Fixed as Fixed
from elbax.data.levels import Prepared as Prepared
from elbax.data.levels import Threshold as Threshold
from elbax.data.levels import binarisation as binarisation
from elbax.data.levels import binarise as binarise
from elbax.data.levels import prepare as prepare
from elbax.data.loading import load as load
from elbax.data.locate import cache_dir as cache_dir
from elbax.data.locate import data_dir as data_dir
from elbax.data.split import FileOrder as FileOrder
from elbax.data.split import Shuffled as Shuffled
from elbax.data.split import Splits as Splits
