"""What weak scaling studies say of more ranks than ran: `python -m benchmarks.beyond TABLE.h5…`.

Each table is one of `hpctrain scaling --weak`. With P times the samples on P ranks, a rank computes
what it computes in the study's largest run, in its CPU time there, C. A call of P ranks is ⌈log₂ P⌉
messages (`hpctrain.study.projection`), so that those of an iteration and their bytes, M and B on P₀
ranks, grow by d = ⌈log₂ P⌉ / ⌈log₂ P₀⌉:

    T(P) = C + d (α M + B / β),   efficiency T(1) / T(P).

What is gathered grows less, by 1 - 1/P: this is the slower end. What all ranks write and draw at
the start is left out.
"""

import argparse
from pathlib import Path

from benchmarks.tables import write_markdown
from hpctrain.parallel.traffic import count_steps
from hpctrain.store.table_file import read_table
from hpctrain.study.projection import find_network

RANKS = (64, 256, 1024)
NETWORKS = ("infiniband-hdr", "ethernet-10g")
HEADERS = ["study", "network", "P", "computed", "messages", "efficiency"]


def list_rows(path: Path) -> list[list[str]]:
    """A row for each network and P, seconds of an iteration."""
    columns, _ = read_table(path)
    depth = count_steps(int(columns["ranks"][-1]))
    times = columns["seconds"] / columns["iterations"]
    computed = times[-1] - (columns["communication_seconds"] / columns["iterations"])[-1]
    rows = []
    for name in NETWORKS:
        network = find_network(name)
        for ranks in RANKS:
            grown = count_steps(ranks) / depth
            calls = grown * columns["messages"][-1], grown * columns["bytes"][-1]
            sent = network.predict_seconds(*calls)
            efficiency = f"{times[0] / (computed + sent):.1%}"
            rows.append(
                [path.stem, name, f"{ranks:,}", f"{computed:.3g}", f"{sent:.2g}", efficiency]
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beyond")
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE.h5")
    rows = [row for path in parser.parse_args().tables for row in list_rows(path)]
    print(write_markdown(HEADERS, rows))


if __name__ == "__main__":
    main()
