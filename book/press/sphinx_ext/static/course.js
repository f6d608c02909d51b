"use strict";

// Runs in the head: the reader's own colours from the first paint on. The theme decides later.
{
  const page = document.documentElement.dataset;
  page.mode ||= "auto";
  if (page.theme !== "light" && page.theme !== "dark") {
    page.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
}

/** Shows a term's definition while the pointer or the focus is on a link to it; Escape hides it. */
function addDefinitions() {
  const template = document.getElementById("course-definitions");
  if (!template) return;
  const box = document.createElement("div");
  box.id = "course-tooltips";
  box.append(template.content);
  document.body.append(box);
  let link, tip, hiding;

  const place = () => {
    if (!link) return;
    const at = link.getClientRects()[0];
    const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
    const above = at.top - tip.offsetHeight - 6;
    tip.style.left = `${Math.max(8, Math.min(at.left, right))}px`;
    tip.style.top = `${above >= 8 ? above : at.bottom + 6}px`;
  };
  const hide = () => {
    clearTimeout(hiding);
    tip?.classList.remove("shown");
    link = tip = undefined;
  };
  const hideSoon = () => (hiding = setTimeout(hide, 200));

  for (const definition of box.children) {
    const term = definition.dataset.term;
    definition.id = `definition-${term}`;
    definition.setAttribute("role", "tooltip");
    // The pointer may move onto the definition without losing it.
    definition.addEventListener("mouseenter", () => clearTimeout(hiding));
    definition.addEventListener("mouseleave", hideSoon);
    for (const to of document.querySelectorAll(`article a.internal[href$="#${CSS.escape(term)}"]`)) {
      const show = () => {
        hide();
        [link, tip] = [to, definition];
        tip.classList.add("shown");
        place();
      };
      to.classList.add("term");
      to.setAttribute("aria-describedby", definition.id);
      to.addEventListener("mouseenter", show);
      to.addEventListener("focus", show);
      to.addEventListener("mouseleave", hideSoon);
      to.addEventListener("blur", hide);
    }
  }
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("scroll", place, { passive: true });
}

/** Lets what is wider than its box scroll, also from the keyboard. */
function markWide() {
  for (const box of document.querySelectorAll("span.math, .math-box")) {
    box.classList.remove("wide");
    const wide = box.firstElementChild.getBoundingClientRect().width > box.parentElement.clientWidth
      || box.scrollWidth > box.clientWidth;
    box.classList.toggle("wide", wide);
    wide ? (box.tabIndex = 0) : box.removeAttribute("tabindex");
  }
}

document.addEventListener("DOMContentLoaded", () => {
  addDefinitions();
  markWide();
});
addEventListener("resize", markWide);
