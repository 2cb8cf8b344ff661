"""Texts of small jobs: what tests of runs share, where each says only what it is about."""

# Three layers of four neurons.
TANH = 'kind = "mlp"\ndepth = 3\nwidth = 4\nactivation = "tanh"'
# A classifier of images with one hidden layer.
FCNN = 'kind = "fcnn"\nhidden = [8]'
# The digits that a test has written into a folder.
DIGITS = 'name = "classification"\ndata = "mnist"\ndata_path = "{folder}"'
ADAM = 'name = "adam"\nlearning_rate = 0.02\nbatch_size = 20'


def write_text(
    problem: str,
    *,
    network: str = TANH,
    solver: str = "{solver}",
    output: str = "",
    stop: str = "",
    chunks: int = 8,
    threads: int | str = 1,
    first: str = "",
) -> str:
    """The text of a job, of the lines of its tables; `{names}` in them are left for `str.format`.

    Args:
        solver: the lines of `[solver]`, or whole tables `[[solver]]`.
        first: lines before all tables.
    """
    head = "" if solver.startswith("[[") else "[solver]\n"
    tables = {"problem": problem, "network": network}
    later = {
        "parallel": f"chunks = {chunks}\nthreads = {threads}",
        "output": output,
        "stop": stop,
    }
    parts = [first, *_write_tables(tables), f"{head}{solver}", *_write_tables(later)]
    return "\n".join(filter(None, parts)) + "\n"


def _write_tables(tables: dict[str, str]) -> list[str]:
    return [f"[{name}]\n{lines}" for name, lines in tables.items() if lines]
