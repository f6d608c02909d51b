"""The notebooks for Colab: installed from this fork, in Markdown that Colab can show.

That they run in an older environment without touching it is proved by tests/older.
"""

import re

import pytest
from toy import code, notebook

from book.press import chapters, colab

SOURCES = {"he2015deep": "He et al. (2015)", "chollet2017xception": "Chollet (2017)"}
NUMBERED = {"eq-y": "2.1", "fig-z": "2.3"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_REPOSITORY", "a-fork/of-the-course")
        patch.setenv("GITHUB_SHA", "0" * 40)
        patch.delenv("GITHUB_SERVER_URL", raising=False)
        colab.write(folder, preview=True)
    return folder / "notebooks"


@pytest.mark.parametrize("chapter", chapters.find(), ids=lambda chapter: chapter.name)
def test_chapter_for_colab(written, chapter):
    notebook = chapters.read(written / f"{chapter.name}.ipynb")
    assert notebook.cells[0].source.startswith("# ")
    install = "git+https://github.com/a-fork/of-the-course.git@" + "0" * 40
    assert f'%pip install --quiet --no-deps "resnetlib @ {install}"' in notebook.cells[1].source
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"\{[a-z:]+\}`", cell.source), cell.source
            assert not re.search(r"^(:::|```\{)", cell.source, flags=re.MULTILINE), cell.source
            assert not re.search(r"\$\$ *\([\w-]+\)", cell.source), cell.source


@pytest.mark.parametrize(
    ("myst", "plain"),
    [
        ("a {term}`stride` of 2", "a stride of 2"),
        ("{term}`strides <stride>`", "strides"),
        ("see {cite:t}`he2015deep`", "see He et al. (2015)"),
        (
            "so it is {cite:p}`he2015deep,chollet2017xception`.",
            "so it is (He et al. 2015; Chollet 2017).",
        ),
        ("$$\ny = x\n$$ (eq-y)", "$$\ny = x\n\\tag{2.1}\n$$"),
        ("see {eq}`eq-y` and {numref}`fig-z`", "see (2.1) and Figure 2.3"),
        ("(place)=\n## A heading", "## A heading"),
        (
            ":::{admonition} Predict\n:class: tip\nHow many?\n\nSay it.\n:::\nAfter",
            "> **Predict**\n>\n> How many?\n>\n> Say it.\nAfter",
        ),
        ("```{note}\nMind {term}`bias`.\n```", "> **Note**\n>\n> Mind bias."),
        ("```python\n{not a directive}\n```", "```python\n{not a directive}\n```"),
    ],
)
def test_plain_markdown(myst, plain):
    assert colab.plain_markdown(myst, SOURCES, NUMBERED) == plain


def test_equations_and_figures_have_the_numbers_of_the_book():
    plot = code("plot()", name="plot")
    plot.metadata["mystnb"] = {"figure": {"name": "fig-a", "caption": "A bar."}}
    chapter = notebook(plot)
    chapter.cells[0].source += "\n\n$$\na\n$$ (eq-a)\n\n$$\nb\n$$ (eq-b)\n\nSee {eq}`eq-b`."
    numbered = colab.numbers({7: chapter})
    assert numbered == {"eq-a": "7.1", "eq-b": "7.2", "fig-a": "7.1"}
    title, bootstrap, figure, caption = colab.colab_notebook(chapter, "here", {}, numbered).cells
    assert title.source.endswith("See (7.2).")
    assert '"resnetlib @ here"' in bootstrap.source
    assert figure.source == "plot()"
    assert caption.source == "*Figure 7.1. A bar.*"


def test_without_an_address_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    with pytest.raises(SystemExit, match="git remote add origin"):
        colab.source_at(tmp_path)
