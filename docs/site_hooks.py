"""Hooks of MkDocs: pages that are made when the site is built, and links that leave `docs`.

The README, the changelog and the tables of the benchmarks are pages of the site too. Their links
work in the repository; here they are changed to those of the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import site_gallery
import site_reference
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
# Pages of the site by the file in the repository that they are made from.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{
        f"benchmarks/results/{path.name}": f"results/{path.name}"
        for path in sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    },
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
NETWORK = re.compile(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="((?:https?:)?//[^"]+)"')
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

_made: dict[str, str | Path] = {}


def on_config(config: Any) -> Any:
    """Make the pages, and put them in the places of the navigation that name them by a star."""
    _made.clear()
    try:
        gallery = site_gallery.examples()
    except RuntimeError as err:
        raise PluginError(str(err)) from None
    _made["gallery/index.md"] = site_gallery.index(gallery)
    for example in gallery:
        _made[example.page] = example.markdown()
        _made[f"gallery/{example.figure.name}"] = example.figure
    api = site_reference.api_pages()
    _made.update(api)
    _made["reference/command-line.md"] = site_reference.command_page()
    for source, page in PAGES.items():
        _made[page] = (ROOT / source).read_text(encoding="utf-8")
    stars = {
        "gallery/*": ["gallery/index.md", *({e.short_title: e.page} for e in gallery)],
        "reference/*": list(api),
        "results/*": [page for page in SOURCES if page.startswith("results/")],
    }
    config.nav = _filled(config.nav, stars)
    return config


def _filled(nav: Any, stars: dict[str, list[Any]]) -> Any:
    if isinstance(nav, list):
        return [_filled(entry, stars) for entry in nav]
    if isinstance(nav, dict):
        return {title: _filled(entry, stars) for title, entry in nav.items()}
    return stars.get(nav, nav)


def on_files(files: Any, config: Any) -> Any:
    """Add what was made."""
    for path, content in _made.items():
        if isinstance(content, Path):
            files.append(File.generated(config, path, abs_src_path=str(content)))
        else:
            files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Change links of the repository to those of the site."""
    here = page.file.src_uri
    if here == "index.md":
        page.meta["hide"] = ["navigation"]
    if here.startswith(("gallery/", "reference/")):
        return markdown
    source = SOURCES.get(here, f"docs/{here}")

    def moved(link: re.Match[str]) -> str:
        target, anchor = link[1], link[2] or ""
        if "://" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        return posixpath.relpath(_page_of(path, here), posixpath.dirname(here) or ".") + anchor

    parts, last = [], 0
    for block in FENCE.finditer(markdown):
        parts += [LINK.sub(moved, markdown[last : block.start()]), block[0]]
        last = block.end()
    return "".join([*parts, LINK.sub(moved, markdown[last:])])


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse pages that would load something from the network."""
    if loaded := NETWORK.search(output):
        raise PluginError(f"{page.file.src_uri} loads {loaded[1]} from the network")
    return output


def _page_of(path: str, here: str) -> str:
    """The page of the site for a file of the repository."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("examples/") and path.endswith(".py"):
        return f"gallery/{Path(path).stem}.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    raise PluginError(f"{here} refers to {path}, which is no part of the site")
