"""The built site in a real browser, served on loopback with the rest of the network cut off.

``make book`` first. COURSE_SITE names another folder than _build/html, such as a damaged copy.
"""

import functools
import os
import re
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from playwright.sync_api import sync_playwright

from book.press import chapters
from book.press.compile import pages_of_contents

SITE = Path(os.environ.get("COURSE_SITE", chapters.ROOT / "_build" / "html"))
PAGES = pages_of_contents(chapters.ROOT)
NOTEBOOKS = [page for page in PAGES if page.startswith("notebooks/")]
WIDE, PHONE = 1280, 390
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

if not CHROMIUM:
    pytest.skip("no Chromium here; on Debian: apt-get install chromium", allow_module_level=True)


def test_site_is_built():
    if not (SITE / "index.html").exists():
        pytest.fail(f"{SITE / 'index.html'} is missing: run make book first", pytrace=False)


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def origin():
    """The address of the site."""
    if not (SITE / "index.html").exists():
        pytest.skip("there is no site")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    # Cut the network off here: Playwright's own interception would also switch off the cache.
    arguments.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Reader:
    """One window, which notes what goes wrong."""

    def __init__(self, browser, origin, width, scheme="light"):
        self.origin = origin
        self.faults = []
        size = {"width": width, "height": 844}
        self.context = browser.new_context(viewport=size, color_scheme=scheme)
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.note(f"exception: {error}"))
        self.page.on("console", lambda said: said.type == "error" and self.note(said.text))
        self.page.on("requestfailed", self.failed)
        self.page.on(
            "response", lambda got: got.status >= 400 and self.note(f"{got.url} {got.status}")
        )
        self.page.on("request", self.request)

    def note(self, fault):
        self.faults.append(fault)

    def failed(self, request):
        if request.failure != "net::ERR_ABORTED":  # only the next page was faster
            self.note(f"{request.url} {request.failure}")

    def request(self, request):
        if not request.url.startswith((f"{self.origin}/", "data:", "blob:")):
            self.note(f"request to another site: {request.url}")

    def open(self, name):
        self.faults = []
        self.page.goto(f"{self.origin}/{name}.html")
        return self.page


@pytest.fixture(scope="module")
def read(browser, origin):
    """Open a page of the contents: one window for each width and colour scheme."""
    readers = {}

    def open_page(name, width=WIDE, scheme="light"):
        if (width, scheme) not in readers:
            readers[width, scheme] = Reader(browser, origin, width, scheme)
        return readers[width, scheme].open(name)

    open_page.readers = readers
    yield open_page
    for reader in readers.values():
        reader.context.close()


@pytest.fixture
def fresh(browser, origin):
    """A window without a memory of earlier tests: choices such as the colours are remembered."""
    readers = []

    def open_page(name, width=WIDE, scheme="light"):
        readers.append(Reader(browser, origin, width, scheme))
        return readers[-1].open(name)

    yield open_page
    for reader in readers:
        reader.context.close()


class Visit(NamedTuple):
    """What the browser made of a page."""

    faults: list[str]
    found: dict


LOOK = """async () => {
  await document.fonts.ready;
  const all = (selector) => [...document.querySelectorAll(selector)];
  return {
    ids: all("[id]").map((element) => element.id),
    links: all("a[href]").map((link) => link.href),
    mute: all("img").filter((image) => !image.alt.trim()).map((image) => image.src),
    broken: all("img").filter((image) => image.complete && !image.naturalWidth)
      .map((image) => image.src),
    formulas: all("article math").map((math) => {
      const box = math.getBoundingClientRect();
      return [math.getAttribute("alttext"), box.width, box.height];
    }),
    next: document.querySelector("a.right-next")?.href ?? null,
    previous: document.querySelector("a.left-prev")?.href ?? null,
  };
}"""


@pytest.fixture(scope="module")
def visits(read):
    """Every page of the contents, and the search, opened once at desktop width."""
    seen = {}
    for name in [*PAGES, "search"]:
        page = read(name)
        found = page.evaluate(LOOK)
        seen[name] = Visit(read.readers[WIDE, "light"].faults, found)
    return seen


def none_of(faults):
    faults = list(faults)
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_page_opens_without_a_fault_and_without_a_request_elsewhere(visits, name):
    none_of(visits[name].faults)


def test_front_door_leads_to_the_first_page(fresh, origin):
    page = fresh("index")
    page.wait_for_url(f"{origin}/{PAGES[0]}.html")


@pytest.mark.parametrize("name", PAGES)
def test_every_image_is_there_and_says_what_it_shows(visits, name):
    none_of(visits[name].found["broken"])
    none_of(visits[name].found["mute"])


@pytest.mark.parametrize("name", PAGES)
def test_links_and_their_places_exist(visits, origin, name):
    dead = []
    for link in visits[name].found["links"]:
        target = urlsplit(link)
        if f"{target.scheme}://{target.netloc}" != origin:
            continue
        path = unquote(target.path).strip("/") or "index.html"
        if not (SITE / path).is_file():
            dead.append(f"{path} does not exist")
        elif target.fragment and path.endswith(".html"):
            there = visits[path.removesuffix(".html")].found["ids"]
            if unquote(target.fragment) not in there:
                dead.append(f"{path} has no place {target.fragment}")
    none_of(dead)


def test_mathematics_is_drawn(visits):
    formulas = [formula for name in PAGES for formula in visits[name].found["formulas"]]
    assert formulas, "no page has a formula"
    none_of(tex for tex, width, height in formulas if not (width > 3 and height > 3))


def test_mathematics_has_its_own_font(read):
    page = read(NOTEBOOKS[1])
    page.evaluate("document.fonts.ready")
    loaded = "[...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)"
    assert any("Course Math" in family for family in page.evaluate(loaded))


def test_previous_and_next_lead_through_the_book(visits, origin):
    urls = [f"{origin}/{name}.html" for name in PAGES]
    assert [visits[name].found["next"] for name in PAGES] == [*urls[1:], None]
    assert [visits[name].found["previous"] for name in PAGES] == [None, *urls[:-1]]


def test_next_can_be_clicked(read, origin):
    page = read(PAGES[0])
    page.click("a.right-next")
    page.wait_for_url(f"{origin}/{PAGES[1]}.html")


@pytest.mark.parametrize("name", [*PAGES, "search"])
def test_phone_needs_no_sideways_scrolling(read, name):
    page = read(name, PHONE)
    wider = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    culprits = page.evaluate(
        """() => [...document.querySelectorAll("article *")]
          .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
          .filter((e) => !e.closest(".highlight, .output, .math-box, .wide, [tabindex='0']"))
          .map((e) => `${e.tagName}.${e.className}: ${e.textContent.slice(0, 60)}`).slice(0, 5)"""
    )
    assert (wider, culprits) == (0, [])


# Visible is what the reader could click: on the screen, and not behind something else.
CLICKABLE = """() => {
  const link = document.querySelector(".bd-links a.internal");
  const box = link.getBoundingClientRect();
  return link.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
}"""


@pytest.mark.parametrize(("width", "at_first"), [(WIDE, True), (PHONE, False)])
def test_sidebar_toggle(fresh, width, at_first):
    page = fresh(NOTEBOOKS[0], width)
    shown, hidden = CLICKABLE, f"() => !({CLICKABLE})()"
    page.wait_for_function(shown if at_first else hidden)
    page.click(".primary-toggle:visible")
    page.wait_for_function(hidden if at_first else shown)
    if at_first:
        page.click(".primary-toggle:visible")
    else:
        page.keyboard.press("Escape")
    page.wait_for_function(shown if at_first else hidden)


def brightness(page):
    """Of the page's ground, from 0 to 1; a browser's own ground is white."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    *channels, alpha = [float(part) for part in re.findall(r"[\d.]+", colour + " 1")][:4]
    return sum(channels) / 765 if alpha else 1.0


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_colours_follow_the_reader(fresh, origin, width):
    page = fresh(NOTEBOOKS[0], width, "light")
    assert brightness(page) > 0.9
    page.click("button.theme-switch-button:visible")
    assert brightness(page) < 0.2
    page.click("a.right-next")
    page.wait_for_url(f"{origin}/{PAGES[PAGES.index(NOTEBOOKS[0]) + 1]}.html")
    assert brightness(page) < 0.2, "the choice is forgotten on the next page"
    assert brightness(fresh(NOTEBOOKS[0], width, "dark")) < 0.2, "the system's choice is ignored"


def test_search_finds_stride(fresh):
    page = fresh(PAGES[0])
    page.click(".search-button-field:visible")
    page.keyboard.type("stride")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    page.wait_for_function(
        "document.querySelector('.search-summary')?.textContent.includes('found')"
    )
    found = page.evaluate("[...document.querySelectorAll('#search-results li a')].map(a => a.href)")
    assert any("notebooks/02_convolution.html" in link for link in found)
    assert any("book/glossary.html" in link for link in found)


def test_definition_appears_on_hover_and_on_focus(fresh):
    page = fresh(NOTEBOOKS[1])
    term = page.locator("article a.term").first
    tip = page.locator(f"#{term.get_attribute('aria-describedby')}")
    assert not tip.is_visible()
    term.hover()
    tip.wait_for()
    assert len(tip.inner_text()) > 20
    page.mouse.move(0, 0)
    tip.wait_for(state="hidden")
    term.focus()
    tip.wait_for()
    page.keyboard.press("Escape")
    tip.wait_for(state="hidden")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_can_be_downloaded(visits, origin, name):
    wanted = f"{origin}/_sources/{name}.ipynb"
    assert wanted in visits[name].found["links"]
    notebook = nbformat.read(SITE / "_sources" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert any(cell.get("outputs") for cell in notebook.cells), "it was never executed"
