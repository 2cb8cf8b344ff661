"""Parts of RMTR, each alone: mini-batches that grow, the cascade, the hierarchy, the refinement."""

import math
from functools import partial

import pytest
import torch
from classifiers import CLASSES, objective_of, part
from torch import nn

from hpctrain.errors import InputError
from hpctrain.methods.multilevel.batch_growth import BatchGrowth, Epoch
from hpctrain.methods.multilevel.cascade import Cascade, Stage, check_batch_sizes, check_stages
from hpctrain.methods.multilevel.hierarchy import Hierarchy
from hpctrain.methods.multilevel.refinement import HalfStepFit, LevelKnowledge, carry_knowledge
from hpctrain.methods.quasi_newton.lsr1 import LSR1
from hpctrain.methods.trust_region.control import RadiusOptions
from hpctrain.methods.trust_region.models import LinearModel, LSR1Model
from hpctrain.methods.trust_region.step import TrialRule
from hpctrain.networks.residual import ResidualNetwork, make_dense_resnet
from hpctrain.objective import evaluate_point
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.problems.data.sets import DataSet

# Mini-batches that grow


def grown(loss_after, decreases, size=4, zeta=0.5, loss_before=1.0):
    epoch = Epoch(size, loss_before, number=2, decreases=decreases)
    return BatchGrowth(10, 0, zeta).begin_next(epoch, 9.0, lambda: loss_after)


@pytest.mark.parametrize(
    ("loss_after", "size"),
    [(0.4, 4), (0.501, 8), (0.5, 8), (2.0, 8), (math.nan, 8)],
)
def test_mini_batches_double_where_the_loss_fell_by_less_than_zeta_times_their_decreases(
    loss_after, size
):
    """L fell from 1, the mini-batches' losses by 1, ζ = ½."""
    after = grown(loss_after, 1.0)
    assert (after.batch_size, after.number, after.index, after.decreases) == (size, 3, 0, 0.0)
    assert after.loss == loss_after or math.isnan(loss_after)


def test_mini_batches_never_have_more_samples_than_there_are():
    assert grown(2.0, 1.0, size=6).batch_size == 10


def test_where_all_samples_were_seen_at_once_nothing_is_evaluated_and_nothing_grows():
    epoch = Epoch(10, 1.0, decreases=1.0)
    after = BatchGrowth(10, 0, 0.5).begin_next(epoch, 3.0, pytest.fail)
    assert (after.batch_size, after.loss) == (10, 3.0)


def test_an_epoch_goes_through_all_samples_once_and_sums_decreases():
    batches, epoch, seen = BatchGrowth(10, 0, 0.5), Epoch(4, 1.0), []
    while not batches.is_over(epoch):
        seen += batches.choose(epoch).tolist()
        epoch = batches.add(epoch, 0.25)
    assert sorted(seen) == list(range(10))
    assert (epoch.index, epoch.decreases) == (3, 0.75)
    assert BatchGrowth(10, 0, 0.5).choose(Epoch(10, 1.0)) is None


# The cascade

STAGES = [Stage(level=1, epochs=0.5, batch_size=3, steps=2), Stage(level=2, epochs=1.0)]
CASCADE = Cascade(STAGES, levels=3, batch_size=5, samples=10)


def test_stages_come_one_after_the_other_and_the_finest_network_last():
    assert [CASCADE.depth(number) for number in range(4)] == [2, 1, 0, 0]
    assert [CASCADE.steps(number) for number in range(3)] == [2, None, None]
    assert [CASCADE.first_batch_size(number, 7) for number in range(3)] == [3, 7, 5]
    assert [CASCADE.fills_epoch(number) for number in range(3)] == [False, True, True]


def test_a_stage_ends_when_its_epochs_have_passed_and_what_follows_never():
    assert [CASCADE.is_over(0, seen) for seen in (4, 5, 6)] == [False, True, True]
    assert [CASCADE.is_over(1, seen) for seen in (14, 15)] == [False, True]
    assert not CASCADE.is_over(2, 10**9)


@pytest.mark.parametrize("levels", [[2, 1], [4], [1, 4]])
def test_stages_whose_levels_fall_or_do_not_exist_are_refused(levels):
    with pytest.raises(ValueError, match="must not fall, nor exceed 3"):
        check_stages([Stage(level=level, epochs=1.0) for level in levels], 3)


def test_a_stage_with_more_samples_than_there_are_is_refused():
    with pytest.raises(InputError, match=r"cascade: batch_size = 3 is not allowed: at most 2"):
        check_batch_sizes(STAGES, 2)


# Hierarchy and refinement


@pytest.fixture(scope="module")
def hierarchy():
    make = partial(make_dense_resnet, 36, 6, CLASSES, 1.0, nn.Tanh)
    data = DataSet("tiny", part(24), part(6, seed=1), CLASSES)
    network = ResidualNetwork("net", make, (1, 6, 6), 4)
    problem = ClassificationProblem(data, network, dtype=torch.float64)
    return Hierarchy.halve(objective_of(problem, 2), 3, "constant"), problem


def test_a_prolonged_point_is_projected_back_to_itself(hierarchy):
    levels, problem = hierarchy
    theta = levels.sample(problem.make_initial_parameters(0), 2)
    point = evaluate_point(levels.networks[2], theta)
    fine = levels.prolong(point, 2)
    assert len(fine.theta) == problem.parameters and fine.loss == point.loss
    first, second = levels.transfers
    assert torch.equal(second.project(first.project(fine.theta)), theta)
    assert torch.equal(second.project(first.project(fine.gradient)), point.gradient)
    assert levels.prolong(point, 0) == point


def test_a_network_that_cannot_be_halved_so_often_is_refused(hierarchy):
    with pytest.raises(InputError, match=r"^solver.levels = 4 is not allowed: "):
        Hierarchy.halve(hierarchy[0].networks[0], 4, "constant")


def test_without_samples_a_finer_network_is_a_copy_and_with_them_it_is_not(hierarchy):
    levels, problem = hierarchy
    coarse, transfer = levels.networks[1], levels.transfers[0]
    theta = levels.sample(problem.make_initial_parameters(0), 1)
    copied = HalfStepFit(0, seed=0).refine(coarse, transfer, theta, draw=0)
    fitted = HalfStepFit(12, seed=0).refine(coarse, transfer, theta, draw=0)
    assert torch.equal(copied, transfer.prolong(theta))
    assert not torch.equal(fitted, copied)
    assert not torch.equal(fitted, HalfStepFit(12, seed=0).refine(coarse, transfer, theta, draw=1))


def test_knowledge_that_is_carried_up_keeps_products_of_pairs_and_the_limit_of_the_radius(
    hierarchy,
):
    levels, problem = hierarchy
    transfer, n = levels.transfers[0], levels.networks[1].parameters
    s, y = torch.linspace(1, 2, n).double(), torch.linspace(3, 5, n).double()
    below = LevelKnowledge(1.0, 2.0, LSR1().update(s, y, 5))
    rule = TrialRule(LSR1Model(5), RadiusOptions(max_radius=1.2), 2)
    known = carry_knowledge(below, 0.7, transfer, rule)
    assert (known.radius, known.reach) == (1.2, 0.7)
    assert len(known.memory.s[0]) == problem.parameters
    assert float(known.memory.s[0] @ known.memory.y[0]) == pytest.approx(float(s @ y))
    linear = TrialRule(LinearModel(), RadiusOptions(), 2)
    assert not carry_knowledge(below, 0.7, transfer, linear).memory.s
