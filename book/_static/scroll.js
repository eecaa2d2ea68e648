// What is wider than the screen, or taller than its box, scrolls in its own box; the keyboard can reach it there.
document.addEventListener("DOMContentLoaded", () => {
  const scrolls = (box) => box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
  const reach = (box) => box.setAttribute("tabindex", scrolls(box) ? "0" : "-1");
  const observer = new ResizeObserver((entries) => entries.forEach((entry) => reach(entry.target.closest("[data-box]"))));
  for (const box of document.querySelectorAll(".figure-box, .pst-scrollable-table-container, div.math, .highlight pre")) {
    box.dataset.box = "";
    observer.observe(box);
    if (box.firstElementChild) observer.observe(box.firstElementChild);
  }
});
