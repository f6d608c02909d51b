"""Rows of strings as a table for the terminal and for a page."""

import html
from collections.abc import Sequence


def text_table(
    rows: Sequence[Sequence[str]],
    align: str,
    rules: Sequence[int] = (1,),
    cut: Sequence[int] = (),
    width: int = 96,
) -> str:
    """Return rows of strings as an aligned text table.

    align: one letter a column, "l" (left) or "r" (right).
    rules: a line is drawn above each of these rows.
    cut: the columns that may be shortened to fit, the first choice first.
    width: of the longest line, in characters.
    """
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    excess = sum(sizes) + 2 * (len(sizes) - 1) - width
    for column in cut:
        less = max(0, min(excess, sizes[column] - 10))
        sizes[column] -= less
        excess -= less
    lines = []
    for index, row in enumerate(rows):
        if index in rules:
            lines.append("-" * (sum(sizes) + 2 * (len(sizes) - 1)))
        cells = [
            _cut(cell, size).rjust(size) if side == "r" else _cut(cell, size).ljust(size)
            for cell, size, side in zip(row, sizes, align, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _cut(text: str, size: int) -> str:
    """Shorten a text in its middle: layer names differ at both ends."""
    if len(text) <= size:
        return text
    end = (size - 1) // 2
    return text[: size - 1 - end] + "…" + text[len(text) - end :]


def html_table(
    caption: str, rows: Sequence[Sequence[str]], align: str, footer: bool = False
) -> str:
    """Return rows of strings, the first the header, as an HTML table that follows the page's style.

    align: one letter a column, "l" (left) or "r" (right).
    footer: True puts the last row into the table's foot.
    """

    def line(row: Sequence[str], scopes: Sequence[str]) -> str:
        cells = []
        for cell, side, scope in zip(row, align, scopes, strict=True):
            tag, scope = ("th", f' scope="{scope}"') if scope else ("td", "")
            side = "right" if side == "r" else "left"
            cells.append(f'<{tag}{scope} style="text-align:{side}">{html.escape(cell)}</{tag}>')
        return f"<tr>{''.join(cells)}</tr>\n"

    by_row = ["row"] + [""] * (len(align) - 1)
    head, *body = rows
    foot = [body.pop()] if footer else []
    return (
        f"<table>\n<caption>{html.escape(caption)}</caption>\n"
        f"<thead>\n{line(head, ['col'] * len(align))}</thead>\n"
        f"<tbody>\n{''.join(line(row, by_row) for row in body)}</tbody>\n"
        + "".join(f"<tfoot>\n{line(row, by_row)}</tfoot>\n" for row in foot)
        + "</table>"
    )
