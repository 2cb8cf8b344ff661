"""ℓ₂-regularised logistic regression, the finite sum on which variance reduction is compared.

    L(θ) = (1/p) Σ_j ℓ_j(θ),   ℓ_j(θ) = log(1 + exp(-c_j x_jᵀθ)) + (λ/2) ‖θ‖²,   c_j = ±1

The ℓ₂ term belongs to every ℓ_j, so that a subset of the samples is regularised as the whole set.
Gradients and Hessian-vector products are analytic, and take two passes over the features each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.special import expit
from torch import Tensor

from hpctrain.decomposition.blocks import LayerRange, Region
from hpctrain.errors import InputError
from hpctrain.linalg.arrays import CPU, to_array, to_tensor
from hpctrain.linalg.vectors import dot
from hpctrain.objective import Counts, Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.tree import share_chunks
from hpctrain.problems.logistic.features import MOST_FEATURES, Rows, make_dense, make_features
from hpctrain.problems.logistic.suboptimality import SuboptimalityMonitor


@dataclass(frozen=True)
class LabelledRows:
    """Samples as they are read: features (p, n), dense or sparse, and labels (p,)."""

    features: Rows
    labels: np.ndarray


class LogisticProblem:
    """Two classes, divided by a plane.

    Args:
        data: the samples; of two labels, -1 and 1, or others of which the lower becomes -1.
        source: where they are from, for messages.
        ridge: λ; by default 1/p.
        dtype: the precision of all numbers.
        device: of θ and of the sums, which the host makes.

    Attributes:
        classes: the two labels, ascending.

    Raises:
        InputError: there are not exactly two labels, a feature is not finite, or there are none or
            too many features.
    """

    cautions: tuple[str, ...] = ()

    def __init__(
        self,
        data: LabelledRows,
        source: str,
        ridge: float | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device = CPU,
    ) -> None:
        self.samples, self.parameters = data.features.shape
        if not 1 <= self.parameters <= MOST_FEATURES:
            raise InputError(
                f"{source}: {self.parameters} features, allowed are 1 to {MOST_FEATURES}"
            )
        self.ridge = 1 / self.samples if ridge is None else ridge
        self.source = source
        precision = np.dtype(str(dtype).removeprefix("torch."))
        self._labels = _make_signs(data.labels, source).astype(precision)
        self.classes = np.unique(data.labels)
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            self._rows = data.features.astype(precision)
        self._dtype = dtype
        self._device = device
        _check_finite(self._rows, source)

    @property
    def layers(self) -> list[LayerRange]:
        return [LayerRange(0, self.parameters, self.parameters)]

    def make_initial_parameters(self, seed: int) -> Tensor:
        """θ₀ = 0, whatever the seed."""
        return torch.zeros(self.parameters, dtype=self._dtype, device=self._device)

    def share(
        self, chunks: int, rank: int, ranks: int, threads: int, samples: Tensor | None = None
    ) -> "LogisticLoss":
        """The loss over the chunks that rank `rank` of `ranks` holds; one thread does its work.

        Args:
            samples: numbers of the samples to take, ascending; by default all.
        """
        taken = np.arange(self.samples) if samples is None else to_array(samples)
        first, last = share_chunks(chunks, ranks)[rank]
        bounds = np.array([c * len(taken) // chunks for c in range(first, last + 1)])
        own = taken[bounds[0] : bounds[-1]]
        rows, labels = self._rows[own], self._labels[own]
        return LogisticLoss(rows, labels, own, bounds - bounds[0], self.ridge, self._device)

    def describe(self) -> str:
        kind = "dense" if isinstance(self._rows, np.ndarray) else "sparse"
        return (
            f"{self.samples} samples of {self.source}, {self.parameters} {kind} features,"
            f" l2 weight {self.ridge:.3g}"
        )

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return (self.parameters,)

    def make_classifier(self, theta: Tensor) -> Callable[[Rows], np.ndarray]:
        """A function of rows (N, n), dense or sparse: the probabilities (N, 2) of the two labels.

        Args:
            theta: (n,).
        """
        at = to_array(theta)

        def classify(rows: Rows) -> np.ndarray:
            margins = make_features(rows.astype(at.dtype), [0, rows.shape[0]]).products(at)
            return np.column_stack([expit(-margins), expit(margins)])

        return classify

    def make_monitor(
        self, communicator: Communicator, chunks: int, threads: int
    ) -> SuboptimalityMonitor:
        """L - L*, where L* is found now by Newton's method; collective."""
        with communicator.timer.phase("validation"):
            share = self.share(chunks, communicator.rank, communicator.size, threads)
            counts = Counts(share.loss_cost, share.gradient_cost)
            objective = Objective(share, communicator, self.samples, chunks, counts)
            return SuboptimalityMonitor(objective, self.ridge, self.make_initial_parameters(0))


class LogisticLoss:
    """Sums of ℓ_j over chunks of samples; see `objective.PortableLoss`.

    Args:
        rows: features (N, n) of the samples held.
        labels: c_j (N,), ±1.
        numbers: of these samples in the whole set (N,), ascending.
        bounds: chunk c holds the rows bounds[c] to bounds[c + 1] - 1.
        ridge: λ.
        device: of θ and of the sums.
    """

    prefix_cost = 0

    def __init__(
        self,
        rows: Rows,
        labels: np.ndarray,
        numbers: np.ndarray,
        bounds: np.ndarray,
        ridge: float,
        device: torch.device = CPU,
    ) -> None:
        self.parameters = rows.shape[1]
        self.dtype, self.device = to_tensor(labels).dtype, device
        self.loss_cost, self.gradient_cost = self.parameters, 2 * self.parameters
        self._features = make_features(rows, bounds.tolist())
        self._labels = labels
        self._numbers = numbers
        self._bounds = bounds
        self._sizes = np.diff(bounds).astype(labels.dtype)
        self._ridge = ridge
        self._known: tuple[Tensor, np.ndarray] | None = None

    def sum_losses(self, theta: Tensor) -> Tensor:
        return to_tensor(self._compute_losses(theta), self.device)

    def sum_losses_and_gradients(self, theta: Tensor) -> Tensor:
        weights = -self._labels * expit(-self._compute_margins(theta))
        gradients = self._features.sum_chunks(weights)
        gradients += np.outer(self._sizes, self._ridge * to_array(theta))
        return to_tensor(np.column_stack([self._compute_losses(theta), gradients]), self.device)

    def multiply_hessians(self, theta: Tensor, v: Tensor) -> Tensor:
        sigma = expit(self._compute_margins(theta))
        direction = to_array(v)
        weights = sigma * (1 - sigma) * self._features.products(direction)
        sums = self._features.sum_chunks(weights)
        sums += np.outer(self._sizes, self._ridge * direction)
        return to_tensor(sums, self.device)

    def subset(self, chosen: Tensor) -> "LogisticLoss":
        kept, _ = self._find_held(to_array(chosen))
        bounds = np.searchsorted(kept, self._bounds)
        rows, labels = self._features.rows[kept], self._labels[kept]
        return LogisticLoss(rows, labels, self._numbers[kept], bounds, self._ridge, self.device)

    def gather_samples(self, chosen: Tensor, communicator: Communicator) -> "LogisticLoss":
        """See `objective.PortableLoss`."""
        kept, places = self._find_held(to_array(chosen))
        found = communicator.allgather(
            (places, make_dense(self._features.rows[kept]), self._labels[kept])
        )
        order = np.argsort(np.concatenate([places for places, _, _ in found]))
        rows = np.concatenate([rows for _, rows, _ in found])[order]
        labels = np.concatenate([labels for _, _, labels in found])[order]
        numbers, bounds = np.arange(len(chosen)), np.array([0, len(chosen)])
        return LogisticLoss(rows, labels, numbers, bounds, self._ridge, self.device)

    def evaluate_sample_gradient(self, place: int, theta: Tensor) -> Tensor:
        """See `objective.PortableLoss`; the rows are dense, as `gather_samples` makes them."""
        x, c, at = self._features.rows[place], self._labels[place], to_array(theta)
        weight = -c * expit(-c * np.einsum("i,i->", x, at))
        return to_tensor(weight * x + self._ridge * at, self.device)

    def restrict(self, region: Region, theta: Tensor) -> "LogisticLoss":
        """Itself: there is one layer, and so only one block of parameters."""
        if region.size != self.parameters:
            raise ValueError("logistic regression has one block of parameters")
        return self

    def _find_held(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which rows held are among the chosen samples, and at which places of `chosen`."""
        rows = np.searchsorted(self._numbers, chosen)
        inside = rows < len(self._numbers)
        inside[inside] = self._numbers[rows[inside]] == chosen[inside]
        return rows[inside], np.flatnonzero(inside)

    def _compute_losses(self, theta: Tensor) -> np.ndarray:
        each = np.logaddexp(0, -self._compute_margins(theta))
        held = self._sizes > 0
        sums = np.zeros(len(self._sizes), each.dtype)
        if held.any():
            sums[held] = np.add.reduceat(each, self._bounds[:-1][held])
        return sums + self._sizes * (0.5 * self._ridge * dot(theta, theta))

    def _compute_margins(self, theta: Tensor) -> np.ndarray:
        """c_j x_jᵀθ (N,); kept for the next call, which is often at the same θ."""
        if self._known is None or not torch.equal(self._known[0], theta):
            products = self._features.products(to_array(theta))
            self._known = theta.clone(), self._labels * products
        return self._known[1]


def _make_signs(labels: np.ndarray, source: str) -> np.ndarray:
    """The lower of two labels as -1, the other as 1."""
    values = np.unique(labels)
    if len(values) != 2 or not np.isfinite(values).all():
        shown = ", ".join(f"{value:g}" for value in values[:5])
        raise InputError(
            f"{source}: {len(values)} different labels ({shown}{', ...' * (len(values) > 5)}):"
            " logistic regression takes two, such as -1 and 1"
        )
    return np.where(labels == values[1], 1.0, -1.0)


def _check_finite(features: Rows, source: str) -> None:
    values = features.data if isinstance(features, csr_array) else features.ravel()
    good = np.isfinite(values)
    if not good.all():
        place = int(good.argmin())
        if isinstance(features, csr_array):
            sample = int(np.searchsorted(features.indptr, place, side="right")) - 1
        else:
            sample = place // features.shape[1]
        raise InputError(f"{source}: a feature of sample {sample} is not finite in {values.dtype}")
