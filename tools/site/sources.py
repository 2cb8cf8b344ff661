"""Links of pages into the tree: files beside docs/ become pages that show them."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from reference import OPTIONS, write_options

ROOT = Path(__file__).parents[2]

# A link or a picture of Markdown: what stands before the target, the target, what follows.
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
LANGUAGES = {".py": "python", ".toml": "toml", ".sbatch": "bash", ".csv": "text", ".md": "text"}


def find_sources(texts: Mapping[str, str], pages: Mapping[str, str]) -> list[str]:
    """The files of the tree that pages link to and that are no pages.

    Args:
        texts: pages in Markdown, by their files.
        pages: files that are pages of the site, by their places there.
    """
    targets = {_resolve(name, found[2]) for name in texts for found in LINK.finditer(texts[name])}
    return sorted(
        path
        for path in targets
        if path and path not in pages and not path.startswith("docs/") and (ROOT / path).is_file()
    )


def rewrite_links(text: str, name: str, pages: Mapping[str, str]) -> str:
    """A page's text with links that hold on the site; `name` is the file that it comes from."""
    folder = PurePosixPath(place_page(name, pages)).parent

    def rewrite(found: re.Match[str]) -> str:
        path = _resolve(name, found[2])
        if path is None or not (ROOT / path).exists():
            return found[0]
        return f"{found[1]}{os.path.relpath(place_page(path, pages), folder)}{found[3]}"

    return LINK.sub(rewrite, text)


def show_source(path: str) -> str:
    """A page that shows a file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".ipynb"):
        return _write_notebook(text)
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"# {path}\n\n````{language}\n{text.rstrip()}\n````\n"


def _write_notebook(text: str) -> str:
    """The cells of a notebook, one after the other."""
    cells = [(each["cell_type"], "".join(each["source"])) for each in json.loads(text)["cells"]]
    shown = (f"```python\n{said}\n```" if kind == "code" else said for kind, said in cells)
    return "\n\n".join(shown) + "\n"


def fill_options(text: str) -> str:
    """A page's text with the settings of solvers where it asks for them."""
    return OPTIONS.sub(lambda found: _write_table(found[1].split(", ")), text)


def _write_table(solvers: list[str]) -> str:
    """The settings that these solvers share, all of them."""
    (table,) = {write_options(solver) for solver in solvers}
    return table


def _resolve(name: str, target: str) -> str | None:
    """The path of a link's target in the tree; None for an address."""
    if ":" in target:
        return None
    return os.path.normpath(PurePosixPath(name).parent / target)


def place_page(path: str, pages: Mapping[str, str]) -> str:
    """Where a file of the tree is on the site."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return pages.get(path, f"source/{path}.md")
