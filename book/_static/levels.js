// Blocks of class "levels": a slider picks the one level that is shown. Without JavaScript every level stands beside the others.
document.addEventListener("DOMContentLoaded", () => {
  for (const block of document.querySelectorAll(".levels")) {
    const frames = [...block.querySelectorAll("[data-x]")];
    const marker = block.querySelector(".levels-marker");
    const control = document.createElement("div");
    control.className = "levels-control";
    const label = document.createElement("label");
    const input = document.createElement("input");
    const output = document.createElement("output");
    input.id = `${block.id}-input`;
    label.htmlFor = input.id;
    label.textContent = block.dataset.name;
    output.setAttribute("for", input.id);
    Object.assign(input, { type: "range", min: 0, max: frames.length - 1, step: 1, value: block.dataset.start });
    control.append(label, input, output);
    const show = () => {
      const frame = frames[input.value];
      frames.forEach((other) => (other.hidden = other !== frame));
      marker?.setAttribute("x1", frame.dataset.x);
      marker?.setAttribute("x2", frame.dataset.x);
      input.setAttribute("aria-valuetext", frame.dataset.said);
      output.textContent = frame.dataset.label;
    };
    input.addEventListener("input", show);
    block.classList.add("levels-moving");
    block.prepend(control);
    show();
  }
});
