// Pointers, keys and buttons: panning and zooming, choosing a region, correcting an object.
const CLICK_PX = 4; // what a hand moves while it clicks
const correction = find(".hp-correct");
const framing = find("[data-do=region]");
const pointers = new Map(); // id -> [x, y]
let pressed = null; // where the one pointer went down, null once it has moved
let corner = null; // px of the image where the region that is being drawn began
let place = null; // px of the image that the correction is of

const onImage = ([x, y]) => [left + x / zoom, top + y / zoom];

canvas.onpointerdown = (event) => {
  canvas.setPointerCapture(event.pointerId);
  const at = [event.offsetX, event.offsetY];
  pointers.set(event.pointerId, at);
  pressed = pointers.size === 1 ? at : null;
  const drawing = framing.getAttribute("aria-pressed") === "true" || event.shiftKey;
  corner = image && drawing && pressed ? onImage(at) : null;
};

canvas.onpointermove = (event) => {
  const now = [event.offsetX, event.offsetY];
  const before = pointers.get(event.pointerId);
  if (!before) return mark(image ? hit(...now) : null);
  if (pressed && Math.hypot(now[0] - pressed[0], now[1] - pressed[1]) < CLICK_PX) return;
  pressed = null;
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  pointers.set(event.pointerId, now);
  if (corner) {
    frame = between(corner, onImage(now));
    return redraw();
  }
  if (!other) return pan(before[0] - now[0], before[1] - now[1]);
  const apart = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]) || 1;
  zoomBy(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
};

canvas.onpointerup = (event) => {
  pointers.delete(event.pointerId);
  if (pressed) correct(hit(...pressed, (layer) => layer.instances), onImage(pressed));
  else if (corner) choose(frame);
  pressed = corner = null;
};
canvas.onpointercancel = (event) => {
  pointers.delete(event.pointerId);
  pressed = corner = null;
};
canvas.onpointerleave = () => mark(null);
canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    zoomBy(2 ** (-event.deltaY / 300), event.offsetX, event.offsetY);
  },
  { passive: false },
);

function between([x0, y0], [x1, y1]) {
  const start = [Math.min(x0, x1), Math.min(y0, y1)];
  return [...start, Math.abs(x1 - x0), Math.abs(y1 - y0)].map(Math.round);
}

function choose(region) {
  framing.setAttribute("aria-pressed", "false");
  frame = image.region; // until the server has taken another
  redraw();
  trigger("select", { region });
}

function shownPart() {
  return between([left, top], onImage([width(), height()]));
}

function correct(item, at) {
  correction.hidden = true;
  if (!image || !layers.some((layer) => layer.instances)) return;
  if (at[0] < 0 || at[1] < 0 || at[0] >= image.width || at[1] >= image.height) return;
  place = at.map(Math.floor);
  const name = item ? item.feature.properties.classification.name : "";
  find(".hp-about").textContent = item ? `This ${name}:` : "Nothing was found here:";
  find(".hp-type").value = name || "nucleus";
  for (const button of correction.querySelectorAll("[data-say]")) {
    button.hidden = (button.dataset.say === "missed") === Boolean(item);
  }
  correction.hidden = false;
}

for (const button of correction.querySelectorAll("button")) {
  button.onclick = () => {
    const [x, y] = place;
    const { say } = button.dataset;
    if (say) trigger("input", { x, y, verdict: say, type: find(".hp-type").value });
    correction.hidden = true;
    canvas.focus();
  };
}

function correctMarked() {
  if (!image) return;
  const item = marked && marked.feature.properties.objectType === "detection" ? marked : null;
  correct(item, item ? inside(item) : onImage([width() / 2, height() / 2]));
  if (!correction.hidden) find(".hp-type").focus();
}

function inside({ shape, box }) {
  const [x0, y0, x1, y1] = box;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  for (let y = Math.floor((y0 + y1) / 2); y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      if (pen.isPointInPath(shape, x + 0.5, y + 0.5, "evenodd")) return [x, y];
    }
  }
  return [x0, y0];
}

const keys = {
  ArrowLeft: () => pan(-60, 0),
  ArrowRight: () => pan(60, 0),
  ArrowUp: () => pan(0, -60),
  ArrowDown: () => pan(0, 60),
  "+": () => zoomBy(1.5),
  "=": () => zoomBy(1.5),
  "-": () => zoomBy(1 / 1.5),
  0: fit,
  n: () => step(1),
  p: () => step(-1),
  r: () => image && choose(shownPart()),
  w: () => image && choose(null),
  Enter: correctMarked,
  Escape: () => {
    correction.hidden = true;
    mark(null);
  },
};
canvas.onkeydown = (event) => {
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
};
const buttons = {
  in: () => zoomBy(1.5),
  out: () => zoomBy(1 / 1.5),
  fit,
  region: () => framing.setAttribute("aria-pressed", framing.getAttribute("aria-pressed") !== "true"),
  whole: () => image && choose(null),
};
for (const button of element.querySelectorAll("[data-do]")) {
  button.onclick = buttons[button.dataset.do];
}
opacity.oninput = redraw;
let sized = false;
new ResizeObserver(() => {
  if (sized) redraw();
  else fit();
  sized = width() > 0 && image !== null;
}).observe(canvas);
watch("value", show);
show();
