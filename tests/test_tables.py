"""Tables for the terminal and for a page."""

import pytest

from resnetlib.tables import html_table, text_table

ROWS = [("name", "count"), ("a", "1"), ("bcd", "2,000"), ("total", "2,001")]


def test_columns_are_aligned():
    assert text_table(ROWS, "lr").splitlines() == [
        "name   count",
        "------------",
        "a          1",
        "bcd    2,000",
        "total  2,001",
    ]


def test_rules_stand_above_the_rows_that_are_named():
    lines = text_table(ROWS, "lr", rules=(1, 3)).splitlines()
    assert [index for index, line in enumerate(lines) if set(line) == {"-"}] == [1, 4]
    assert "-" not in text_table(ROWS, "lr", rules=())


def test_no_line_ends_in_spaces():
    assert text_table([("a", ""), ("b", "longer")], "ll").splitlines()[0] == "a"


def test_long_cells_are_cut_in_their_middle():
    lines = text_table([("name",), ("abcdefghijklmnop",)], "l", cut=(0,), width=12).splitlines()
    assert lines == ["name", "-" * 12, "abcdef…lmnop"]


def test_columns_are_cut_in_the_order_of_choice_and_to_ten_at_least():
    wide = [("a" * 30, "b" * 30)]
    first, second = text_table(wide, "ll", rules=(), cut=(1, 0), width=45).split()
    assert (len(first), len(second)) == (30, 13)
    first, second = text_table(wide, "ll", rules=(), cut=(1, 0), width=10).split()
    assert (len(first), len(second)) == (10, 10)


def test_html_by_hand():
    assert html_table("Counts", ROWS[:2], "lr") == (
        "<table>\n<caption>Counts</caption>\n<thead>\n"
        '<tr><th scope="col" style="text-align:left">name</th>'
        '<th scope="col" style="text-align:right">count</th></tr>\n</thead>\n<tbody>\n'
        '<tr><th scope="row" style="text-align:left">a</th>'
        '<td style="text-align:right">1</td></tr>\n</tbody>\n</table>'
    )


def test_the_last_row_may_be_a_footer():
    page = html_table("Counts", ROWS, "lr", footer=True)
    assert page.index("bcd") < page.index("<tfoot>") < page.index("2,001") < page.index("</tfoot>")


def test_html_is_escaped():
    page = html_table("<b>", [("x",), ("&",)], "r")
    assert "&lt;b&gt;</caption>" in page
    assert ">&amp;</th>" in page


@pytest.mark.parametrize("table", [text_table, lambda *given: html_table("Counts", *given)])
def test_rows_of_different_lengths_are_refused(table):
    with pytest.raises(ValueError, match="zip"):
        table([("a", "b"), ("c",)], "ll")
