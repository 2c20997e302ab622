// Shows one step of a replay at a time. Gradio replaces what is in `element` with each new trace.
let at = 0;

function show(by) {
  const sections = [...element.querySelectorAll("section")];
  if (!sections.length) return;
  at = Math.min(sections.length - 1, Math.max(0, at + by));
  sections.forEach((section, i) => {
    section.hidden = i !== at;
  });
  const picture = Number(sections[at].dataset.picture);
  element.querySelectorAll("img").forEach((image, i) => {
    image.hidden = i !== picture;
  });
  element.querySelector("[role=status]").textContent = `Step ${at + 1} of ${sections.length}`;
}

element.addEventListener("click", (event) => {
  const { by } = event.target.dataset;
  if (by) show(Number(by));
});
element.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by && event.target.tagName !== "PRE") show(by);
});
watch("value", () => {
  at = 0;
  show(0);
});
