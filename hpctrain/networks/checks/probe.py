"""Tries on a few samples whether a module can be trained as a finite sum over samples.

    L(θ) = (1/|D|) Σ_j ℓ_j(θ)

So what a module computes for a sample may depend on θ and this sample only. The same samples must
give the same bits twice, and a sample by itself what it gives among others. An evaluation must not
change what the module keeps, nor draw random numbers. The module is tried in the mode in which it
is made and trained: dropout and batch normalisation pass in evaluation mode.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpctrain.linalg.randomness import GlobalGenerators, keep_generators, make_generator
from hpctrain.networks.checks.blame import Call, find_first_difference, find_first_draw, list_calls
from hpctrain.networks.checks.kept_state import (
    copy_attributes,
    copy_tensors,
    find_changed_attribute,
    find_changed_tensor,
    have_same_bits,
    list_named_tensors,
)
from hpctrain.networks.faults import NetworkError
from hpctrain.user_code.faults import explain

# Samples that are evaluated together.
BATCH = 2
# By how much a sample's outputs may differ alone and among others, relative to the largest: the
# order of a sum in a product of matrices depends on their sizes.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
# The parameters are tried somewhat away from where they start, since zeros hide what is behind.
AWAY = 0.01
# By numbers that repeat after so many, a prime: to draw millions takes as long as to evaluate.
AWAY_PERIOD = 4099
# Sums of probabilities are one to within this.
SUM_TOLERANCE = 1e-4

_NORM = "normalise by nn.GroupNorm, which takes each sample by itself"
_FIXED_NORM = f"{_NORM}, or fix its statistics by eval() where it is made"
_CHANCE = "leave it out, as the loss must not depend on chance"
_PURE = "a sample's loss may depend on the parameters and on that sample alone"


@dataclass(frozen=True)
class Found:
    """What was seen of a module that can be trained.

    Attributes:
        probabilities: whether its outputs are not negative and sum to one for each sample.
    """

    probabilities: bool


def probe(name: str, module: nn.Module, samples: Tensor) -> Found:
    """Evaluates copies of a module on samples; global random generators stay as they are.

    Args:
        name: as messages call the module.
        module: in its mode and precision.
        samples: `BATCH` samples or more (N, …), in the module's precision.

    Raises:
        NetworkError: it fails, or is no finite sum over samples; the message says what was seen,
            and in which part of the module.
    """
    with keep_generators():
        return _Probe(name, module, samples[:BATCH]).run()


class _Probe:
    """One trial of a module."""

    def __init__(self, name: str, module: nn.Module, samples: Tensor) -> None:
        self._name = name
        self._module = module
        self._x = samples
        self._alone = samples[1:]
        drawn = make_generator(0, "away").standard_normal(AWAY_PERIOD)
        self._away = AWAY * torch.tensor(drawn, dtype=samples.dtype, device="cpu")

    def run(self) -> Found:
        """Tries everything, and raises the NetworkError of the first fault."""
        module = self._copy()
        before = copy_tensors(module)
        among_others = self._evaluate(module, self._x)
        if name := find_changed_tensor(before, list_named_tensors(module)):
            raise self._is_changed(name, module)
        # One that takes something over from the first samples it sees is found by a fresh copy.
        module = self._copy()
        once = self._evaluate(module, self._alone)
        kept = copy_attributes(module)
        alone = self._evaluate(module, self._alone)
        if name := find_changed_attribute(kept, copy_attributes(module)):
            raise self._is_changed(name, module)
        if not have_same_bits(once, alone):
            raise self._varies()
        if not self._is_same_sample(among_others, alone):
            raise self._mixes_samples()
        self._differentiate(module, alone)
        return Found(_are_probabilities(among_others.detach()))

    def _copy(self) -> nn.Module:
        """Copies the module as it was made, with its trained parameters moved a little."""
        try:
            module = copy.deepcopy(self._module)
        except Exception as error:
            raise NetworkError(
                f"{self._name} cannot be copied for each thread: {explain(error)}"
            ) from error
        for parameter in module.parameters():
            if parameter.requires_grad:
                count = parameter.numel()
                away = self._away.repeat(1 + count // len(self._away))[:count]
                parameter.data.add_(away.view(parameter.shape))
        return module

    def _evaluate(self, module: nn.Module, x: Tensor) -> Tensor:
        before, taken = GlobalGenerators.capture(), x.clone()
        try:
            y = module(taken)
        except Exception as error:
            how = "samples" if len(x) > 1 else "one sample by itself,"
            shape = " x ".join(map(str, x.shape[1:]))
            raise NetworkError(
                f"{self._name} fails on {how} of {shape}: {explain(error)}"
            ) from error
        if GlobalGenerators.capture().differ_from(before):
            call = find_first_draw(list_calls(self._copy(), x))
            raise self._make_error("draws random numbers", call, _CHANCE)
        if not torch.equal(taken, x):
            raise NetworkError(f"{self._name} changes its inputs in place: leave out inplace")
        self._check_outputs(y, x)
        return y

    def _check_outputs(self, y: object, x: Tensor) -> None:
        if not isinstance(y, Tensor):
            given = f"a {type(y).__name__}"
        elif y.dtype != x.dtype:
            given = f"{y.dtype} numbers"
        elif y.ndim == 0 or len(y) != len(x):
            given = f"the shape {tuple(y.shape)}"
        else:
            return
        count = "1 sample" if len(x) == 1 else f"{len(x)} samples"
        expected = f"a tensor of {x.dtype}, a row for each"
        raise NetworkError(f"{self._name} makes {given} of {count}, expected is {expected}")

    def _is_same_sample(self, among_others: Tensor, alone: Tensor) -> bool:
        """Whether a sample has the same outputs among others and by itself, up to round-off."""
        if among_others.shape != (BATCH, *alone.shape[1:]) or not alone.is_floating_point():
            return True
        scale = alone.detach().nan_to_num(0, 0, 0).abs().amax() if alone.numel() else 0.0
        bound = TOLERANCE.get(alone.dtype, 1.0) * float(scale)
        return torch.allclose(among_others[1:], alone, rtol=0, atol=bound, equal_nan=True)

    def _differentiate(self, module: nn.Module, y: Tensor) -> None:
        trained = [each for each in module.parameters() if each.requires_grad]
        try:
            torch.autograd.grad(y.sum(), trained, materialize_grads=True)
        except Exception as error:
            raise NetworkError(
                f"{self._name} has no gradient by its parameters: {explain(error)}"
            ) from error

    def _is_changed(self, name: str, module: nn.Module) -> NetworkError:
        owner = name.rpartition(".")[0]
        part = module.get_submodule(owner)
        what = "parameter" if name in dict(module.named_parameters()) else "attribute"
        what = "buffer" if name in dict(module.named_buffers()) else what
        whose = f" of its {type(part).__name__}" if owner else ""
        return NetworkError(
            f"{self._name} changes its {what} {name}{whose} when it is evaluated:"
            f" {_give_advice(part, _PURE)}"
        )

    def _varies(self) -> NetworkError:
        module = self._copy()
        once, again = list_calls(module, self._alone), list_calls(module, self._alone)
        call = find_first_difference(once, again, have_same_bits)
        return self._make_error(
            "gives other numbers for the same samples a second time", call, _PURE
        )

    def _mixes_samples(self) -> NetworkError:
        together, alone = list_calls(self._copy(), self._x), list_calls(self._copy(), self._alone)
        call = find_first_difference(together, alone, self._is_same_sample)
        return self._make_error(
            "makes of a sample what depends on others of its batch", call, _PURE
        )

    def _make_error(self, what: str, call: Call | None, advice: str) -> NetworkError:
        where = ""
        if call is not None and call.name:
            where = f", first in {call.name} ({type(call.part).__name__})"
            advice = _give_advice(call.part, advice)
        return NetworkError(f"{self._name} {what}{where}: {advice}")


def _give_advice(part: nn.Module, otherwise: str) -> str:
    """Says what to do about a part, by its type; `otherwise` where there is nothing special."""
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        return _FIXED_NORM
    return _NORM if isinstance(part, nn.modules.batchnorm._NormBase) else otherwise


def _are_probabilities(y: Tensor) -> bool:
    if y.ndim != 2 or y.shape[1] < 2:
        return False
    ones = torch.ones_like(y[:, 0])
    return bool((y >= 0).all()) and torch.allclose(y.sum(dim=1), ones, atol=SUM_TOLERANCE)
