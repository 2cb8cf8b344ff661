"""A set made by the recipe of Gisette: two digits that are easily confused, 6000 x 5000 features.

Half of the features are pixels from the upper middle of the images, where 4 and 9 differ, and
products of pairs of these pixels; the other half are probes, which have the values of such features
in an order of their own and so say nothing of the label. All are quantised to 0, …, 999, divided by
999 and shuffled. The recipe: Guyon, Gunn, Ben-Hur, Dror, Result analysis of the NIPS 2003 feature
selection challenge (2005). The digits are MNIST's (`gisette_of`), or drawn (`gisette_like`):
strokes with random shape, slant, size, place and width, so that the set is made from its seed.
"""

import numpy as np
from scipy.sparse import csr_array

from hpctrain.linalg.randomness import make_generator
from hpctrain.problems.data.sets import DataError, Part
from hpctrain.problems.logistic.problem import LabelledRows

SAMPLES, FEATURES = 6000, 5000
SIDE = 28
LEVELS = 999
# Rows and columns of the pixels that features are made of.
ROWS, COLUMNS = range(3, 18), range(6, 22)
# Ink below this is paper.
FAINTEST = 0.2
ARC = np.linspace(0, 2 * np.pi, 9)


def gisette_like(samples: int = SAMPLES, features: int = FEATURES, seed: int = 0) -> LabelledRows:
    """Sparse features in [0, 1], labels 1 for fours and -1 for nines, as many, in random order."""
    random = make_generator(seed, "gisette-like")
    labels = np.where(random.permutation(samples) % 2, 1.0, -1.0)
    return _make_set(_images(labels > 0, random), labels, features, random)


def gisette_of(
    digits: Part, samples: int = SAMPLES, features: int = FEATURES, seed: int = 0
) -> LabelledRows:
    """The same of images of digits, drawn without repetition: half of them fours, half nines.

    Args:
        digits: MNIST's training samples.
        samples, features, seed: of the set.

    Raises:
        DataError: there are not as many fours or nines.
    """
    random = make_generator(seed, "gisette of digits")
    chosen = []
    for digit in (4, 9):
        places = np.flatnonzero(digits.labels == digit)
        if len(places) < samples // 2:
            raise DataError(
                f"{digits.source}: {len(places)} images of {digit}, at least {samples // 2} are"
                " needed: take the complete MNIST"
            )
        chosen.append(random.choice(places, samples // 2, replace=False))
    numbers = random.permutation(np.concatenate(chosen))
    ink = digits.rows(numbers)[:, 0, ROWS.start : ROWS.stop, COLUMNS.start : COLUMNS.stop] / 255
    pixels = np.where(ink < FAINTEST, 0, ink).reshape(len(numbers), -1)
    labels = np.where(digits.labels[numbers] == 4, 1.0, -1.0)
    return _make_set(pixels, labels, features, random)


def _make_set(
    pixels: np.ndarray, labels: np.ndarray, features: int, random: np.random.Generator
) -> LabelledRows:
    """Features and probes out of the ink at pixels (N, ROWS · COLUMNS), shuffled."""
    real = _pixels_and_products(pixels, features - features // 2, random)
    probes = random.permuted(_pixels_and_products(pixels, features // 2, random), axis=0)
    columns = np.concatenate([real, probes], axis=1)[:, random.permutation(features)]
    return LabelledRows(csr_array(columns), labels)


def _pixels_and_products(pixels: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """All pixels and products of random pairs of them, or some pixels if fewer are wanted."""
    total = pixels.shape[1]
    pairs = random.integers(total, size=(2, max(count - total, 0)))
    products = pixels[:, pairs[0]] * pixels[:, pairs[1]]
    return np.round(LEVELS * np.concatenate([pixels, products], axis=1)[:, :count]) / LEVELS


def _images(fours: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Ink in [0, 1] at the pixels of ROWS and COLUMNS (N, ROWS · COLUMNS)."""
    count = len(fours)
    four, nine = _four(count, random), _nine(count, random)
    strokes = _write_by_hand(np.where(fours[:, None, None, None], four, nine), random)
    return _ink(strokes, random.uniform(0.02, 0.045, count))


def _four(count: int, random: np.random.Generator) -> np.ndarray:
    """Segments (N, K, 2, 2) of points (x, y) in the unit square, y downwards: open or closed 4s."""
    top = random.uniform(0.3, 0.62, count)
    left, bar = random.uniform(0.22, 0.34, count), random.uniform(0.48, 0.6, count)
    stem = random.uniform(0.62, 0.7, count)
    bend = np.linspace(0, 1, 6)[:, None]
    points = [
        *(np.stack([top + t * (left - top), 0.15 + t * (bar - 0.15)], 1) for t in bend),
        np.stack([np.full(count, 0.78), bar], 1),
    ]
    line = np.stack(points, 1)
    stroke = np.stack([line[:, :-1], line[:, 1:]], 2)
    upright = [np.stack([stem, np.full(count, y)], 1) for y in (0.15, 0.4, 0.65, 0.9)]
    down = np.stack([np.stack(upright[:-1], 1), np.stack(upright[1:], 1)], 2)
    return np.concatenate([stroke, down], axis=1)


def _nine(count: int, random: np.random.Generator) -> np.ndarray:
    """The same of 9s: a loop, of eight segments, and a tail."""
    centre = np.stack([random.uniform(0.44, 0.52, count), random.uniform(0.3, 0.38, count)], 1)
    radii = np.stack([random.uniform(0.13, 0.22, count), random.uniform(0.14, 0.22, count)], 1)
    circle = np.stack([np.cos(ARC), np.sin(ARC)], 1)
    loop = centre[:, None] + radii[:, None] * circle
    ring = np.stack([loop[:, :-1], loop[:, 1:]], 2)
    foot = np.stack([random.uniform(0.5, 0.7, count), np.full(count, 0.9)], 1)
    return np.concatenate([ring, np.stack([loop[:, 0], foot], 1)[:, None]], axis=1)


def _write_by_hand(strokes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The segments shaken, slanted, scaled and moved."""
    count = len(strokes)
    shaken = strokes + random.normal(0, 0.015, strokes.shape) - 0.5
    slant, x, y = (random.normal(0, s, count) for s in (0.15, 0.03, 0.03))
    size = random.uniform(0.85, 1.1, (count, 1, 1, 1))
    shaken[..., 0] -= slant[:, None, None] * shaken[..., 1]
    return size * shaken + 0.5 + np.stack([x, y], 1)[:, None, None]


def _ink(strokes: np.ndarray, width: np.ndarray) -> np.ndarray:
    """How dark each pixel is, by its distance from the nearest segment."""
    y, x = (
        (axis.reshape(1, -1) + 0.5) / SIDE for axis in np.meshgrid(ROWS, COLUMNS, indexing="ij")
    )
    nearest = np.full((len(strokes), x.size), np.inf)
    for start, end in strokes.transpose(1, 2, 0, 3):
        (along_x, along_y), (x0, y0) = (end - start).T[..., None], start.T[..., None]
        length = np.maximum(along_x**2 + along_y**2, 1e-12)
        fraction = np.clip(((x - x0) * along_x + (y - y0) * along_y) / length, 0, 1)
        gap_x, gap_y = x - x0 - fraction * along_x, y - y0 - fraction * along_y
        np.minimum(nearest, gap_x**2 + gap_y**2, out=nearest)
    ink = np.exp(-nearest / width[:, None] ** 2)
    return np.where(ink < FAINTEST, 0, ink)
