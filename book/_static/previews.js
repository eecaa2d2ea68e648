// Previews of what a link leads to, by tippy.js: Escape closes them. A finger cannot hover: it follows the link at once.
if (window.tippy) {
  tippy.setDefaultProps({
    touch: false,
    onMount: ({ popper, reference }) => {
      popper.firstElementChild.setAttribute("aria-label", `Preview of ${reference.textContent}`); // a formula has no text
      const content = popper.querySelector(".tippy-content");
      if (content.querySelector(":scope > dt")) {
        const list = document.createElement("dl"); // a term without its list is none to a screen reader
        list.append(...content.childNodes);
        content.append(list);
      }
    },
  });
  document.addEventListener("keydown", ({ key }) => key === "Escape" && tippy.hideAll());
}
