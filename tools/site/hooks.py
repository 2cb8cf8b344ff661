"""What MkDocs asks for while it builds the site: generated pages, links into the tree, formulas.

`mkdocs.yml` names this file. Pages that are generated exist in memory only.
"""

from pathlib import Path
from typing import Any

from formulas import write_mathml
from gallery import draw_gallery, fill_examples, write_gallery
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from reference import write_reference
from sources import ROOT, fill_options, find_sources, place_page, rewrite_links, show_source

# Files of the tree that are pages of the site, by their places there.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made of other files, of types, and of runs."""
    pages = {f"docs/{each.src_uri}": each.content_string for each in files.documentation_pages()}
    pages |= {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
    pages |= {"docs/gallery.md": write_gallery(), "docs/reference.md": write_reference()}
    sources = find_sources(pages, PAGES)
    made: dict[str, str | bytes] = {f"source/{path}.md": show_source(path) for path in sources}
    made |= {f"gallery/{name}.png": picture for name, picture in draw_gallery().items()}
    for name in (*PAGES, "docs/gallery.md", "docs/reference.md"):
        made[place_page(name, PAGES)] = rewrite_links(pages[name], name, PAGES)
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turns links into the tree into links to pages, and marks into tables and pictures."""
    source = page.file.abs_src_path
    if source is not None and Path(source).is_relative_to(ROOT / "docs"):
        markdown = rewrite_links(markdown, f"docs/{page.file.src_uri}", PAGES)
    return fill_options(fill_examples(markdown))


def on_page_content(html: str, **_: Any) -> str:
    """Turns formulas into MathML, which browsers show without any script."""
    return write_mathml(html)
