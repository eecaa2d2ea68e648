// A figure wider than the screen scrolls in its own box; the keyboard can reach it there.
document.addEventListener("DOMContentLoaded", () => {
  const reach = () => {
    for (const box of document.querySelectorAll(".figure-box")) {
      const wide = box.scrollWidth > box.clientWidth;
      if (wide) box.setAttribute("tabindex", "0");
      else box.removeAttribute("tabindex");
    }
  };
  addEventListener("load", reach);
  addEventListener("resize", reach);
});
