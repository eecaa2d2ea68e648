// Previews of what a link leads to, by tippy.js: Escape closes them. A finger cannot hover: it follows the link at once.
if (window.tippy) {
  tippy.setDefaultProps({
    touch: false,
    onMount: ({ popper, reference }) => {
      popper.firstElementChild.setAttribute("aria-label", `Preview of ${reference.textContent}`); // a formula has no text
    },
  });
  document.addEventListener("keydown", ({ key }) => key === "Escape" && tippy.hideAll());
}
