"""The map of methods by size and ranks: its model by hand, and runs that are found again."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.map import __main__ as study
from benchmarks.map import page, rows
from benchmarks.map.measured import Products, read_case
from benchmarks.map.methods import (
    BROYDEN,
    GRADIENT,
    METHODS,
    count_parameters,
    count_read,
    list_layers,
)
from benchmarks.map.model import Case, Parts, Timed, Work, count_kept, make_case
from hpctrain.errors import InputError
from hpctrain.job.settings import load_job, write_toml
from hpctrain.store.run_file import RunWriter
from hpctrain.study.projection import Network

BY_LABEL = {method.label: method for method in METHODS}
PLAIN, SOME = BY_LABEL["L-BFGS, m = 3, momentum"], BY_LABEL[BROYDEN]
ADDITIVE, IN_TURN = BY_LABEL["ASPQN, kept Broyden"], BY_LABEL["MSPQN, kept Broyden"]
FREE = Network("free", 0.0, math.inf)
# Of blocks of few rows, which every rank has, and of blocks whose rows are divided.
WIDTH, WIDE, RANKS = 20, 80, (1, 2, 8, 64, 512)
WORK = Work(iterations=10, gradients=100.0)


def make(
    method, local=(0.0, 0.0), globally=(0.0, 0.0), number=0.0, calls=(0.0, 0.0, 0.0), width=WIDTH
):
    """A case of these seconds: divided and repeated in each phase, of a number; and of calls."""
    return Case(method, width, Parts(*local), Parts(*globally), number, *calls)


def test_layers_are_those_of_the_network():
    job = load_job("jobs/burgers-lbfgs.toml", ["network.width=40"])
    network = job.network.make(inputs=2)
    assert count_parameters(40) == network.layers[-1].stop == 10_007
    ours, theirs = (
        [(each.start, each.stop, each.cost) for each in layers]
        for layers in (list_layers(40), network.layers)
    )
    assert ours == theirs


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_one_rank_takes_the_measured_seconds(method):
    whole, share = Timed((3.0, 5.0), Work(3, 40.0)), Timed((1.0, 2.0), Work(3, 40.0))
    case = make_case(method, WIDTH, whole, share, 1e-10, traffic=(10.0, 1e6))
    assert case.project(whole.work, 1, FREE).seconds == pytest.approx(8.0)


@pytest.mark.parametrize("ranks", RANKS)
def test_divided_work_on_a_free_network_takes_its_share(ranks):
    case = make(PLAIN, globally=(0.5, 0.0), calls=(3.0, 1e6, 0.0))
    assert case.project(WORK, ranks, FREE).seconds == pytest.approx(50.0 / ranks)


@pytest.mark.parametrize("ranks", RANKS)
def test_repeated_work_takes_as_long_on_any_ranks(ranks):
    assert make(PLAIN, globally=(0.0, 0.5)).project(WORK, ranks, FREE).seconds == 50.0


def test_calls_take_a_message_a_level_of_the_tree_and_gathers_less():
    """On two ranks 3 messages and 24 bytes a unit of work, of which a gather of 16 sends half."""
    case, slow = make(PLAIN, calls=(3.0, 24.0, 16.0)), Network("slow", 1.0, 1.0)
    one = Work(1, 1.0)
    assert case.project(one, 1, slow).seconds == 0
    assert case.project(one, 2, slow).seconds == 3 + 24
    assert case.project(one, 8, slow).seconds == 9 + 3 * 16 + 7 / 8 * 16


def test_long_sums_are_sent_twice_and_take_two_messages_a_level():
    """Of a gradient of 39,207 numbers, and of a block's of 4,901 on average, which is short."""
    n = count_parameters(WIDE)
    slow, once = Network("slow", 1.0, 1.0), Work(1, 1.0)
    whole = make(PLAIN, calls=(1.0, 8.0 * n, 0.0), width=WIDE)
    assert whole.project(once, 2, slow).seconds == pytest.approx(1 + 8 * n)
    assert whole.project(once, 64, slow).seconds == pytest.approx(12 + 2 * 63 / 64 * 8 * n)
    block = make(IN_TURN, calls=(1.0, n, 0.0), width=WIDE)
    assert block.project(once, 64, slow).seconds == pytest.approx(6 + 6 * n)


def test_the_block_nearest_to_the_input_bounds_the_time_of_blocks_at_once():
    """Gradients of the blocks sweep 8, 7.9, …, 1 layers: eight ranks are not eight times faster."""
    case = make(ADDITIVE, local=(1.0, 0.0))
    costs = [sum(each.cost for each in list_layers(WIDTH)[s:]) for s in range(8)]
    assert case.project(WORK, 1, FREE).seconds == pytest.approx(100.0)
    assert case.project(WORK, 8, FREE).seconds == pytest.approx(100 * costs[0] / sum(costs))


def test_ranks_of_a_block_share_its_points_but_not_few_rows_of_its_inverse_hessian():
    evaluated = make(ADDITIVE, local=(1.0, 0.0)).project(WORK, 512, FREE)
    assert evaluated.divided == pytest.approx(100 / 512, rel=0.1)
    largest = max(block.size for block in ADDITIVE.cut(WIDTH).blocks)
    multiplied = [make(ADDITIVE, number=1.0).project(WORK, P, FREE).products for P in (8, 512)]
    # In each of the ten solves, of ten updates, is a product more.
    assert multiplied == [pytest.approx(1.1 * count_read(largest, 100))] * 2


def test_many_rows_of_blocks_are_divided_among_the_ranks_that_share_them():
    sizes = [block.size for block in IN_TURN.cut(WIDE).blocks]
    few, many = ([n for n in sizes if (n < 2048) == is_few] for is_few in (True, False))
    assert few and many
    read = [1.1 * sum(count_read(n, 100) for n in its) for its in (few, many)]
    found = make(IN_TURN, number=1.0, width=WIDE).project(WORK, 64, FREE).products
    assert found == pytest.approx(read[0] + read[1] / 64)
    memory = [make(IN_TURN, width=WIDE).measure_memory(WORK, P) for P in (1, 64)]
    kept = 8 * sum(count_kept(n, 100) for n in many)
    assert memory[0] - memory[1] == pytest.approx(63 / 64 * kept)
    # 64 ranks on eight blocks: the slowest group has at least as many ranks as the average one.
    alone, shared = (make(ADDITIVE, number=1.0, width=WIDE).project(WORK, P, FREE).products
                     for P in (8, 64))  # fmt: skip
    assert alone == pytest.approx(1.1 * count_read(max(sizes), 100))
    assert alone / 16 < shared < alone / 2
    assert IN_TURN.count_gathered(WIDE) == 11 * sum(many)


def test_blocks_in_turn_repeat_inverse_hessians_of_few_rows_on_every_rank():
    sizes = [block.size for block in IN_TURN.cut(WIDTH).blocks]
    all_read = pytest.approx(1.1 * sum(count_read(size, 100) for size in sizes))
    assert make(IN_TURN, number=1.0).project(WORK, 64, FREE).products == all_read
    assert make(SOME, number=1.0).project(WORK, 64, FREE).products == count_read(2607, 10) / 64


def test_products_read_panels_of_factors_twice_and_then_the_matrix():
    assert count_read(1000, 64) == 64 * (4 * 64) * 1000
    assert count_read(1000, 65) == count_read(1000, 64) + 4 * 128 * 1000
    assert count_read(100, 3) == 3 * 2 * 100 * 100


def test_memory_is_that_of_the_method():
    n = count_parameters(WIDTH)
    assert make(PLAIN).measure_memory(WORK, 64) == 8 * (4 + 2 * 3) * n
    few, many = (make(SOME).measure_memory(WORK, P) for P in (1, 64))
    assert few - many == pytest.approx(8 * count_kept(n, 10) * 63 / 64)
    vectors = 8 * (4 + 2 * 3) * n
    kept = [count_kept(block.size, 100) for block in IN_TURN.cut(WIDTH).blocks]
    assert make(IN_TURN).measure_memory(WORK, 64) == vectors + 8 * sum(kept)
    assert make(ADDITIVE).measure_memory(WORK, 64) == vectors + 8 * max(kept)


def test_a_share_of_the_points_tells_what_is_divided():
    assert Parts.split(whole=10.0, share=1.9, ratio=10.0) == Parts(
        pytest.approx(9), pytest.approx(1)
    )
    assert Parts.split(whole=1.0, share=2.0, ratio=10.0) == Parts(0.0, 1.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    return tmp_path


COLUMNS = {"iteration": "i8", "seconds": "f8", "error": "f8"}
COUNTS = ("loss_evaluations", "gradient_evaluations", "hvp_evaluations")


def write_run(folder, planned, errors, reason="stop.error reached", seconds=1.0, losses=0):
    """A run file with these errors, and of an iteration a gradient, losses and CPU seconds."""
    ranks = planned.ranks
    run = RunWriter(
        folder / f"{planned.name}.h5",
        job=write_toml(planned.planned.job),
        environment={"ranks": ranks},
        columns=COLUMNS | dict.fromkeys(COUNTS, "f8"),
        phases=["local", "global", "communication"],
        ranks=ranks,
    )
    for k, error in enumerate(errors):
        row = {"iteration": k, "seconds": k, "error": error, **dict.fromkeys(COUNTS, 0.0)}
        phases, traffic = np.zeros((ranks, 3, 2)), np.zeros((ranks, 2))
        phases[:, 1], traffic[:] = seconds / ranks, (4, 1000)
        work = {"gradient_evaluations": float(k), "loss_evaluations": float(k * losses)}
        run.append(row | work, phases, traffic)
    run.finish(reason) if reason else run.close()


def write_short(folder, method, losses=0):
    """Its short runs; an iteration takes a gradient, and on few points so many losses."""
    for planned in method.list_runs(WIDTH, seeds=0):
        is_share = "points" in planned.name
        seconds, its = (1e-3, losses) if is_share else (1.0, 0)
        write_run(folder, planned, [1.0] * 4, "stop.max_iterations reached", seconds, its)


def test_every_run_is_a_job_with_a_short_name_of_its_own(folder):
    tasks = [task for width in GRADIENT for task in study.plan(width, seeds=2)]
    names = {task.name for task in tasks}
    assert len(names) == len(tasks) == len(GRADIENT) * (1 + 5 * len(METHODS))
    assert max(map(len, names)) < 100
    for task in study.plan(max(GRADIENT), seeds=1)[1:]:
        assert task.planned.job.network.width == max(GRADIENT)


def test_finished_runs_are_found_and_leave_the_estimate(folder):
    planned = SOME.plan_count(WIDTH, 0)
    before = study.estimate(folder, [WIDTH], 1)
    write_run(folder, planned, [1.0], reason=None)
    assert not planned.has_ended(folder) and study.estimate(folder, [WIDTH], 1) == before
    (folder / f"{planned.name}.h5").unlink()
    write_run(folder, planned, [1.0, 0.01])
    assert planned.has_ended(folder) and study.estimate(folder, [WIDTH], 1) != before


def test_a_map_without_runs_marks_all_cells(folder):
    found = rows.make_rows(WIDTH, 1e-2, 1, folder)
    lines = page.write_table(found).splitlines()[2:]
    assert len(lines) == len(METHODS) and all("not run yet" in line for line in lines)
    assert page.write_words(found, "ethernet-10g") == ""


def test_sizes_without_runs_stay_on_the_page_as_they_are(folder):
    title = f"## n = {count_parameters(WIDTH):,}: 8 layers, {WIDTH} wide"
    before = f"# A map\n\n{title}\n\nOf another machine.\n\n## n = 1\n\nNothing.\n"
    assert page.write_page([WIDTH], 1, folder, "x.png").endswith(f"{title}\n\nNot run yet.\n")
    kept = page.write_page([WIDTH], 1, folder, "x.png", before)
    assert kept.endswith(f"{title}\n\nOf another machine.\n") and "# A map" not in kept
    assert not page.has_begun(WIDTH, 1, folder)
    write_run(folder, SOME.plan_count(WIDTH, 0), [1.0, 0.01])
    assert page.has_begun(WIDTH, 1, folder)
    assert "another machine" not in page.write_page([WIDTH], 1, folder, "x.png", before)


def test_methods_with_blocks_that_lose_most_come_first_and_are_said_to(folder):
    """Broyden takes 2 gradients, ASPQN 3, and MSPQN has not come to the error."""
    products = Products(WIDTH)
    assert not products.has_ended(folder)
    products.advance(folder, None, 0)
    assert products.has_ended(folder)
    for method, errors in ((SOME, [1, 1, 0.01]), (ADDITIVE, [1, 1, 1, 0.01]), (IN_TURN, [1, 0.5])):
        write_run(folder, method.plan_count(WIDTH, 0), errors, "stop.error reached")
        write_short(folder, method)
    found = rows.make_rows(WIDTH, 1e-2, 1, folder)
    assert [row.method for row in found[:2]] == [IN_TURN, ADDITIVE]
    table, said = page.write_table(found), page.write_words(found, "infiniband-hdr")
    assert "not reached: 5.0e-01 so far" in table
    assert f"{ADDITIVE.label} takes" in said and "times as long" in said
    assert f"Not at this error so far, with blocks: {IN_TURN.label}." in said
    mine = next(row for row in found if row.method is SOME)
    assert mine.work == Work(2, 2.0) and mine.ratio == pytest.approx(1.0, abs=0.05)


def test_a_run_on_few_points_that_searches_in_vain_at_round_off_is_no_measure(folder):
    Products(WIDTH).advance(folder, None, 0)
    write_short(folder, SOME, losses=2)
    assert read_case(SOME, WIDTH, folder) is not None
    write_short(folder, ADDITIVE, losses=4)
    with pytest.raises(InputError, match="57% of its work are losses alone, at most 50%"):
        read_case(ADDITIVE, WIDTH, folder)
