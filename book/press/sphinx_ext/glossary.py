"""The definition of a term, shown beside each link to it."""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

TERM_LINK = re.compile(r'class="reference internal" href="[^"]*#(term-[^"]+)"')


def definitions(app: Sphinx) -> dict[str, str]:
    """Each term's anchor and its definition as HTML, without links: they would be relative."""
    found = {}
    objects = app.env.get_domain("std").get_objects()
    for page in {page for _, _, kind, page, _, _ in objects if kind == "term"}:
        doctree = app.env.get_and_resolve_doctree(page, app.builder)
        for item in doctree.findall(nodes.definition_list_item):
            if not isinstance(item.parent.parent, addnodes.glossary):
                continue
            definition = item.next_node(nodes.definition).deepcopy()
            for link in list(definition.findall(nodes.reference)):
                link.replace_self(link.children)
            html = "".join(app.builder.render_partial(part)["fragment"] for part in definition)
            for term in item.findall(nodes.term):
                found |= dict.fromkeys(term["ids"], html.strip())
    return found


def add_definitions(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put the definitions of the terms that a page links to at its end, where course.js reads them.

    They are inert in a <template>, so that neither the reader nor the search sees them twice.
    """
    linked = dict.fromkeys(TERM_LINK.findall(context.get("body", "")))
    if not linked:
        return
    if not hasattr(app.builder, "course_definitions"):
        app.builder.course_definitions = definitions(app)
    known = app.builder.course_definitions
    spans = "".join(f'<div data-term="{i}">{known[i]}</div>' for i in linked if i in known)
    context["body"] += f'<template id="course-definitions">{spans}</template>\n'
