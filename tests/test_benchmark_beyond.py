"""Weak scaling beyond the ranks that ran, by hand."""

import pytest

from benchmarks.beyond import list_rows
from hpctrain.store.table_file import write_table
from hpctrain.study.projection import find_network


def test_messages_grow_by_the_depth_of_the_tree_of_ranks(tmp_path):
    """Two iterations of 3 s on 16 ranks, of which 1 s is spent in calls; 2.5 s on one rank."""
    path = tmp_path / "study.h5"
    columns = {
        "ranks": [1, 16],
        "seconds": [5.0, 6.0],
        "iterations": [2, 2],
        "communication_seconds": [0.0, 2.0],
        "messages": [0.0, 400.0],
        "bytes": [0.0, 8e9],
    }
    write_table(path, columns, {})
    rows = list_rows(path)
    assert [row[2] for row in rows[:3]] == ["64", "256", "1,024"]
    for row, levels in zip(rows, [6, 8, 10, 6, 8, 10], strict=True):
        network = find_network(row[1])
        sent = levels * (100 * network.latency + 2e9 / network.bandwidth)
        assert float(row[3]) == 2.0
        assert float(row[4]) == pytest.approx(sent, rel=0.05)
        assert float(row[5].rstrip("%")) == pytest.approx(250 / (2 + sent), abs=0.06)
