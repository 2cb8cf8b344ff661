"""Predicts how long a run takes on more cores than there are, from CPU times and a network model.

A call of P ranks is taken for ⌈log₂ P⌉ messages, one after the other, and a message for

    t = α + bytes / B,

with the latency α and the bandwidth B of the network (Hockney 1994), so that a call takes
α ⌈log₂ P⌉ + bytes / B. The messages and bytes of a run are counted by its communicator. Its
computation is, for every phase between two records, the CPU time of the slowest rank: ranks that
share cores take turns, but their CPU times are those of ranks that have a core each, about.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from hpctrain.results.summary import StudyError

USEFUL = 0.5


@dataclass(frozen=True)
class Network:
    """A network between ranks.

    Args:
        latency: α, seconds.
        bandwidth: B, bytes a second.
    """

    name: str
    latency: float
    bandwidth: float

    def predict_seconds(self, messages: float, sent: float) -> float:
        """Time for so many messages, one after the other, with so many bytes in them together."""
        return self.latency * messages + sent / self.bandwidth

    def add_calls(self, calls: "Network") -> "Network":
        """This network under calls that cost time of their own: the sum of both."""
        inverse = 1 / self.bandwidth + 1 / calls.bandwidth
        return Network(self.name, self.latency + calls.latency, 1 / inverse)

    def __str__(self) -> str:
        return f"{self.name}: {1e6 * self.latency:.3g} us, {self.bandwidth / 1e9:.3g} GB/s"


# Bandwidths are line rates; latencies are what MPI programs see of such a network, about.
NETWORKS = {
    network.name: network
    for network in (
        Network("infiniband-ndr", 1.0e-6, 50e9),
        Network("infiniband-hdr", 1.0e-6, 25e9),
        Network("infiniband-edr", 1.1e-6, 12.5e9),
        Network("slingshot-11", 2.0e-6, 25e9),
        Network("omni-path-100", 1.2e-6, 12.5e9),
        Network("ethernet-100g", 10e-6, 12.5e9),
        Network("ethernet-25g", 20e-6, 3.125e9),
        Network("ethernet-10g", 30e-6, 1.25e9),
        Network("ethernet-1g", 50e-6, 0.125e9),
    )
}


def find_network(name: str) -> Network:
    """One of NETWORKS.

    Raises:
        StudyError: there is none of this name.
    """
    if name not in NETWORKS:
        raise StudyError(f"--network {name}: allowed are {', '.join(NETWORKS)}")
    return NETWORKS[name]


def fit_network(
    name: str, messages: Sequence[float], sent: Sequence[float], seconds: Sequence[float]
) -> Network:
    """The network that comes closest to measured calls, in relative terms; α and 1/B not negative.

    Args:
        messages, sent, seconds: of each call: its messages, the bytes in all of them, its time.
    """
    t = np.asarray(seconds, float)
    columns = np.column_stack([messages, sent]).astype(float) / t[:, None]
    scales = np.linalg.norm(columns, axis=0)
    (latency, inverse), _ = nnls(columns / scales, np.ones(len(t)))
    latency, inverse = float(latency / scales[0]), float(inverse / scales[1])
    return Network(name, latency, 1 / inverse if inverse > 0 else np.inf)


def find_worst_ratio(
    network: Network,
    messages: Sequence[float],
    sent: Sequence[float],
    seconds: Sequence[float],
) -> float:
    """The greatest factor by which the model is off a measured call, either way; at least 1."""
    model = np.array([network.predict_seconds(*call) for call in zip(messages, sent, strict=True)])
    ratios = model / np.asarray(seconds, float)
    return float(np.max(np.maximum(ratios, 1 / ratios)))


def compute_speed_ups(ranks: Sequence[int], seconds: Sequence[float], weak: bool) -> list[float]:
    """S_P, on top of the first rank count P₀, whose S is P₀ itself.

    Strong: P₀ T_{P₀} / T_P. Weak, with P times the samples: P T_{P₀} / T_P.
    """
    first = seconds[0]
    return [(P if weak else ranks[0]) * first / T for P, T in zip(ranks, seconds, strict=True)]


def compute_efficiencies(ranks: Sequence[int], seconds: Sequence[float], weak: bool) -> list[float]:
    """S_P / P: T₁ / (P T_P) strong, T₁ / T_P weak."""
    found = compute_speed_ups(ranks, seconds, weak)
    return [S / P for P, S in zip(ranks, found, strict=True)]


def find_largest_useful(ranks: Sequence[int], seconds: Sequence[float], weak: bool) -> int:
    """The largest P up to which the efficiency is at least one half, and each P is faster.

    With weak scaling the time has no reason to fall, and only the efficiency counts.
    """
    useful, fastest = ranks[0], seconds[0]
    rows = zip(ranks, seconds, compute_efficiencies(ranks, seconds, weak), strict=True)
    for P, T, efficiency in list(rows)[1:]:
        is_slower = not weak and fastest <= T
        if efficiency < USEFUL or is_slower:
            break
        useful, fastest = P, T
    return useful
