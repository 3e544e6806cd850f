"""The named sets: one entry each, with its files, their sums, its licence, and how its arrays become splits.

The sums of mnist and fashion_mnist belong to contents whose MD5 is the published one; those of binarized_mnist are
the published ones (TensorFlow Datasets); that of caltech101_silhouettes is of the author's file of October 2009. Of
freyfaces no sum has been published: it is of the 1,965 images as they are in common use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from elbax.data.files import PublishedFile
from elbax.data.split import FileOrder, Order, Parts, Shuffled

Arrays = Mapping[str, Any]
"""What the files hold, by plain file name: an array, or the variables of a `.mat` file."""


@dataclass(frozen=True)
class NamedSet:
    """A data set that has a name.

    Attributes:
        name: for `load`.
        what: one line for people.
        image_shape: height and width.
        num_levels: the level of intensity 1.
        sizes: train, valid and test, unless the user asks for others.
        order: of the rows before splits are cut off the training rows; `None` if the files state all splits.
        licence: of the images.
        citation: how to cite them.
        address: official, for people.
        files: what is read.
        arrange: turns what the files hold into splits.
    """

    name: str
    what: str
    image_shape: tuple[int, int]
    num_levels: int
    sizes: tuple[int, int, int]
    order: Order | None
    licence: str
    citation: str
    address: str
    files: tuple[PublishedFile, ...]
    arrange: Callable[[Arrays], Parts] = field(repr=False)


def _digits(arrays: Arrays) -> Parts:
    images, labels = arrays["digits-images-idx3-ubyte"], arrays["digits-labels-idx1-ubyte"]
    return Parts({"train": images}, {"train": labels})


def _mnist_like(arrays: Arrays) -> Parts:
    return Parts(
        {"train": arrays["train-images-idx3-ubyte"], "test": arrays["t10k-images-idx3-ubyte"]},
        {"train": arrays["train-labels-idx1-ubyte"], "test": arrays["t10k-labels-idx1-ubyte"]},
    )


def _binarized_mnist(arrays: Arrays) -> Parts:
    return Parts({split: arrays[f"binarized_mnist_{split}.amat"] for split in ("train", "valid", "test")})


def _caltech(arrays: Arrays) -> Parts:
    variables = arrays["caltech101_silhouettes_28.mat"]
    # MATLAB counts pixels down the columns, everything else here along the rows.
    images = variables["X"].astype("uint8").reshape(-1, 28, 28).transpose(0, 2, 1)
    return Parts({"train": images}, {"train": variables["Y"].reshape(-1)})


def _freyfaces(arrays: Arrays) -> Parts:
    # One image per column; its pixels already run along the rows.
    return Parts({"train": arrays["frey_rawface.mat"]["ff"].T.astype("uint8").reshape(-1, 28, 20)})


def _mnist_files(bases: tuple[str, ...], sums: tuple[str, str, str, str]) -> tuple[PublishedFile, ...]:
    names_sizes = (
        ("train-images-idx3-ubyte.gz", 47_040_016),
        ("train-labels-idx1-ubyte.gz", 60_008),
        ("t10k-images-idx3-ubyte.gz", 7_840_016),
        ("t10k-labels-idx1-ubyte.gz", 10_008),
    )
    return tuple(
        PublishedFile(name, size, sha256, tuple(base + name for base in bases))
        for (name, size), sha256 in zip(names_sizes, sums, strict=True)
    )


_LAROCHELLE = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_MARLIN = "https://people.cs.umass.edu/~marlin/data/"
_ROWEIS = "https://cs.nyu.edu/~roweis/data/"

DIGITS = NamedSet(
    name="digits",
    what="handwritten digits in 17 levels of grey, part of the package",
    image_shape=(8, 8),
    num_levels=16,
    sizes=(1297, 200, 300),
    # Neighbouring rows are by one writer: in file order few people wrote for both training and test. The classes are
    # balanced all the same. (The nearest training image has the label of 94 % of the test images, against 98 to 99 % of
    # them when rows are permuted first.)
    order=FileOrder(),
    licence="CC BY 4.0",
    citation=(
        "Alpaydin, E. & Kaynak, C. (1998). Optical Recognition of Handwritten Digits. UCI Machine Learning Repository. "
        "https://doi.org/10.24432/C50P49"
    ),
    address="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    files=(
        PublishedFile(
            "digits-images-idx3-ubyte.gz", 115_024, "359cd13f0f514122884198b78a131df597421cbf5e93a76678fa96fc548f0d96"
        ),
        PublishedFile(
            "digits-labels-idx1-ubyte.gz", 1_805, "ce71631c1f31ce56fa54f31d1d498fafacff59b001e6c30c4a5e29508aa277ad"
        ),
    ),
    arrange=_digits,
)

MNIST = NamedSet(
    name="mnist",
    what="handwritten digits in 256 levels of grey",
    image_shape=(28, 28),
    num_levels=255,
    # The last 400 for validation, as in the code of Burda et al. (2016).
    sizes=(59_600, 400, 10_000),
    order=FileOrder(),
    licence="CC BY-SA 3.0, as it is commonly distributed",
    citation=(
        "LeCun, Y., Bottou, L., Bengio, Y. & Haffner, P. (1998). Gradient-based learning applied to document "
        "recognition. Proceedings of the IEEE 86(11), 2278-2324."
    ),
    address="https://storage.googleapis.com/cvdf-datasets/mnist/",
    files=_mnist_files(
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    arrange=_mnist_like,
)

FASHION_MNIST = NamedSet(
    name="fashion_mnist",
    what="articles of clothing in 256 levels of grey",
    image_shape=(28, 28),
    num_levels=255,
    sizes=(59_600, 400, 10_000),
    order=FileOrder(),
    licence="MIT",
    citation=(
        "Xiao, H., Rasul, K. & Vollgraf, R. (2017). Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine "
        "Learning Algorithms. arXiv:1708.07747."
    ),
    address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    files=_mnist_files(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    arrange=_mnist_like,
)

BINARIZED_MNIST = NamedSet(
    name="binarized_mnist",
    what="handwritten digits, binarised once by Salakhutdinov & Murray (2008); rows are grouped by class",
    image_shape=(28, 28),
    num_levels=1,
    sizes=(50_000, 10_000, 10_000),
    order=None,
    licence="not stated; derived from MNIST",
    citation=(
        "Larochelle, H. & Murray, I. (2011). The Neural Autoregressive Distribution Estimator. AISTATS; Salakhutdinov, "
        "R. & Murray, I. (2008). On the Quantitative Analysis of Deep Belief Networks. ICML."
    ),
    address=_LAROCHELLE,
    files=tuple(
        PublishedFile(f"binarized_mnist_{split}.amat", size, sha256, (f"{_LAROCHELLE}binarized_mnist_{split}.amat",))
        for split, size, sha256 in (
            ("train", 78_400_000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
            ("valid", 15_680_000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
            ("test", 15_680_000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
        )
    ),
    arrange=_binarized_mnist,
)

CALTECH101_SILHOUETTES = NamedSet(
    name="caltech101_silhouettes",
    what="filled outlines of objects, 0 the object and 1 the background; our split has the sizes of the published one",
    image_shape=(28, 28),
    num_levels=1,
    sizes=(4100, 2264, 2307),
    order=Shuffled(0),
    licence="not stated; Caltech-101 itself is CC BY 4.0",
    citation=(
        "Marlin, B., Swersky, K., Chen, B. & de Freitas, N. (2010). Inductive Principles for Restricted Boltzmann "
        "Machine Learning. AISTATS."
    ),
    address=_MARLIN,
    files=(
        PublishedFile(
            "caltech101_silhouettes_28.mat",
            6_806_735,
            "88d94aa61d03beb4b05d3abb1c70c0179635e52013e841a3473d6b2cb0bc72f4",
            (f"{_MARLIN}caltech101_silhouettes_28.mat",),
            variables=("X", "Y"),
        ),
    ),
    arrange=_caltech,
)

FREYFACES = NamedSet(
    name="freyfaces",
    what="one face in 1,965 frames of a film, 256 levels of grey",
    image_shape=(28, 20),
    num_levels=255,
    sizes=(1565, 200, 200),
    order=Shuffled(0),
    licence="not stated",
    citation="Frey, B. & Roweis, S. Frey Face. https://cs.nyu.edu/~roweis/data.html",
    address="https://cs.nyu.edu/~roweis/data.html",
    files=(
        PublishedFile(
            "frey_rawface.mat",
            1_100_400,
            "fbd70c2c992104024a20f4d253da1a1132eb6bf8ed142dccbe7d2b1743b705c4",
            (f"{_ROWEIS}frey_rawface.mat",),
            variables=("ff",),
        ),
    ),
    arrange=_freyfaces,
)

CATALOGUE = {
    entry.name: entry for entry in (DIGITS, MNIST, FASHION_MNIST, BINARIZED_MNIST, CALTECH101_SILHOUETTES, FREYFACES)
}

AMBIGUOUS = frozenset(
    name
    for name, count in Counter(file.name for entry in CATALOGUE.values() for file in entry.files).items()
    if count > 1
)
"""File names that several sets share."""
