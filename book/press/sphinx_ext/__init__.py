"""The book's Sphinx extension: mathematics without a script, a check of alt texts, tooltips."""

import functools
from pathlib import Path
from typing import Any

import pybtex.plugin
from docutils import nodes
from sphinx.application import Sphinx

from . import alt, glossary, mathml

STATIC = Path(__file__).parent / "static"


def _serve_static(app: Sphinx) -> None:
    app.config.html_static_path.append(str(STATIC))


def _page_context(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    icon = context["pathto"]("_static/favicon.svg", resource=True)
    link = f'<link rel="icon" type="image/svg+xml" href="{icon}" />\n'
    context["metatags"] = context.get("metatags", "") + link
    # The theme knows one branch. Colab opens the executed notebooks' branch; edits go here.
    if app.config.course_edit_branch:
        context["github_version"] = app.config.course_edit_branch


def setup(app: Sphinx) -> dict[str, bool]:
    """Register everything that the book's pages need beyond the theme."""
    # For each citation pybtex would search the metadata of all packages: a tenth of the build.
    pybtex.plugin.entry_points = functools.cache(pybtex.plugin.entry_points)
    app.add_config_value("course_edit_branch", "", "html", str)
    app.add_html_math_renderer("mathml", (mathml.visit_inline, None), (mathml.visit_block, None))
    app.add_css_file("course.css", priority=900)
    app.add_js_file("course.js", priority=100)
    app.connect("builder-inited", _serve_static)
    app.connect("doctree-read", alt.check)
    app.connect("html-page-context", glossary.add_definitions)
    app.connect("html-page-context", _page_context)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
