"""What is compared with what: a job of ours, and the best error published for its equation."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("rows.toml")
# The error of all fields together, √(Σ ‖u_NN − u‖² / Σ ‖u‖²), as PINNacle has it.
POOLED = "pooled"


@dataclass(frozen=True)
class Row:
    """An equation of the suite.

    Attributes:
        job: a file in jobs/, without its ending; it gives points, network, weights and windows.
        name: of the row; by default that of the job.
        settings: of the job, by their keys, where the row has others.
        measure: what is compared, a column of the history: a relative error against the reference,
            or an unknown, of which it is the relative error against its true value; or POOLED.
        error: the best published one of `measure`; None where none is known.
        method, hardware, seconds, source: how, where and in what time it was reached, and who says
            so; nothing for what is not known.
        note: what else there is to know.
        lost: why our error is larger, as far as it was measured; told where it is.
    """

    job: str
    name: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    measure: str = "error"
    error: float | None = None
    method: str = ""
    hardware: str = ""
    seconds: float | None = None
    source: str = ""
    note: str = ""
    lost: str = ""

    @property
    def file(self) -> str:
        """The job file."""
        return f"jobs/{self.job}.toml"


def read_rows(path: Path = FILE) -> list[Row]:
    """Reads the rows of a file, each under a name of its own."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["row"]
    return [Row(**({"name": Path(table["job"]).name} | table)) for table in tables]
