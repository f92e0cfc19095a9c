// One image, large, beside the table of its nuclei: a click on a nucleus shows its row, and the other way round.

const viewer = document.getElementById("viewer");
const canvas = viewer.querySelector("canvas");
const nuclei = document.getElementById("nuclei");
const ROW_PX = 26;
const MAX_ZOOM = 40;

const shownImage = { index: -1, left: 0, top: 0, zoom: 1, selected: -1, order: [], sortedBy: "label", isDescending: false };

async function openViewer(index) {
  const { row, flags } = images[index];
  Object.assign(shownImage, { index, selected: -1 });
  document.getElementById("viewer-title").textContent = nameOf(index);
  document.getElementById("viewer-flags").textContent = wordsOf(flags);
  document.getElementById("viewer-row").replaceChildren(
    table(["column", "value"], Object.entries(row), () => true));
  canvas.setAttribute("aria-label",
    `Picture of ${nameOf(index)} with ${counted(images[index].n, "nucleus", "nuclei")}; the table lists them`);
  if (!viewer.open) viewer.showModal();
  fit();
  await Promise.all([sortNuclei(), drawViewer()]);
  say();
}

function fit() {
  canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
  canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
  const { width, height } = sizeOf(shownImage.index);
  const zoom = Math.min(canvas.width / width, canvas.height / height);
  Object.assign(shownImage, { zoom, left: (width - canvas.width / zoom) / 2, top: (height - canvas.height / zoom) / 2 });
}

// Draws once a frame, however many changes there are.
let isDrawing = null;
function drawViewer() {
  if (!viewer.open) return Promise.resolve();
  isDrawing ??= new Promise((done) => requestAnimationFrame(async () => {
    isDrawing = null;
    await drawImageOf(shownImage.index, canvas, shownImage, shownImage.selected);
    done();
  }));
  return isDrawing;
}

function zoomBy(factor, x = canvas.width / 2, y = canvas.height / 2) {
  const { width, height } = sizeOf(shownImage.index);
  const least = Math.min(canvas.width / width, canvas.height / height) / 2;
  const zoom = Math.min(Math.max(shownImage.zoom * factor, least), MAX_ZOOM);
  shownImage.left += x / shownImage.zoom - x / zoom;
  shownImage.top += y / shownImage.zoom - y / zoom;
  shownImage.zoom = zoom;
  drawViewer();
}

function moveBy(right, down) {
  shownImage.left += right / shownImage.zoom;
  shownImage.top += down / shownImage.zoom;
  drawViewer();
}

function step(by) {
  const place = kept.images.indexOf(shownImage.index);
  const next = kept.images[place + by];
  if (next !== undefined) openViewer(next);
}

function placeOf(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * (canvas.width / box.width), (event.clientY - box.top) * (canvas.height / box.height)];
}

// The nucleus at a point of the canvas, or -1.
async function nucleusAt(x, y) {
  const { index, left, top, zoom } = shownImage;
  const [outlines, labels] = await Promise.all([outlinesOf(index), column("label")]);
  const [column_, row] = [left + x / zoom, top + y / zoom];
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  const place = outlines.paths.findIndex((path, i) => {
    const box = outlines.boxes[i];
    return column_ >= box[0] && column_ <= box[2] && row >= box[1] && row <= box[3]
      && context.isPointInPath(path, column_, row);
  });
  return place < 0 ? -1 : rowsByLabel(index, labels).get(outlines.labels[place]) ?? -1;
}

async function select(nucleus, { centre = false } = {}) {
  shownImage.selected = nucleus;
  if (nucleus >= 0) {
    const row = shownImage.order.indexOf(nucleus);
    const top = row * ROW_PX, seen = nuclei.clientHeight - 2 * ROW_PX;
    if (top < nuclei.scrollTop || top > nuclei.scrollTop + seen) nuclei.scrollTop = top - seen / 2;
  }
  if (centre && nucleus >= 0) await centreOn(nucleus);
  showRows();
  await drawViewer();
  say();
}

// Brings a nucleus into view.
async function centreOn(nucleus) {
  const [outlines, labels] = await Promise.all([outlinesOf(shownImage.index), column("label")]);
  const box = outlines.boxes[outlines.labels.indexOf(labels[nucleus])];
  const { left, top, zoom } = shownImage, [width, height] = [canvas.width / zoom, canvas.height / zoom];
  const isInView = box && box[0] > left && box[1] > top && box[2] < left + width && box[3] < top + height;
  if (!box || isInView) return;
  shownImage.left = (box[0] + box[2] - width) / 2;
  shownImage.top = (box[1] + box[3] - height) / 2;
}

async function say() {
  const labels = await column("label");
  const { index, selected } = shownImage;
  const all = `${counted(countKept(index), "nucleus", "nuclei")}` +
    (kept.nuclei ? ` of ${images[index].n.toLocaleString("en-US")} kept by the filters` : "");
  document.getElementById("viewer-count").textContent =
    selected < 0 ? `${all}. Choose one in the picture or in the table.` : `Nucleus ${labels[selected]} of ${all}`;
}

async function sortNuclei() {
  const { sortedBy } = shownImage, by = await column(sortedBy);
  if (sortedBy !== shownImage.sortedBy) return; // another column was chosen meanwhile
  const { index, isDescending } = shownImage;
  const order = Array.from({ length: images[index].n }, (_, i) => starts[index] + i);
  const sign = isDescending ? -1 : 1;
  const hasNone = (a) => Number.isNaN(by[a]); // these come last, whatever the direction
  shownImage.order = order.sort((a, b) => hasNone(a) - hasNone(b) || sign * (by[a] - by[b]) || a - b);
  nuclei.scrollTop = 0;
  await showRows();
}

// Only the rows in view are in the page: an image may have a hundred thousand nuclei.
async function showRows() {
  const all = await Promise.all(columnNames.map(column));
  const { order, selected } = shownImage;
  const first = Math.max(Math.floor(nuclei.scrollTop / ROW_PX) - 10, 0);
  const last = Math.min(first + Math.ceil(nuclei.clientHeight / ROW_PX) + 20, order.length);
  const spacer = (rows) => {
    const row = element("tr", {}, element("td"));
    row.setAttribute("aria-hidden", "true");
    row.style.height = `${rows * ROW_PX}px`;
    return rows ? [row] : [];
  };
  const body = element("tbody", {}, ...spacer(first), ...order.slice(first, last).map((nucleus, i) => {
    const row = element("tr", { className: isNucleusKept(nucleus) ? "" : "left-out" },
      ...columnNames.map((name, place) => element("td", { textContent: cellOf(name, all[place][nucleus]) })));
    row.setAttribute("aria-selected", String(nucleus === selected));
    row.setAttribute("aria-rowindex", String(first + i + 2));
    row.addEventListener("click", () => select(nucleus, { centre: true }));
    return row;
  }), ...spacer(order.length - last));
  const old = nuclei.querySelector("table");
  if (old?.dataset.index === String(shownImage.index) && old.dataset.sort === sortName()) {
    old.tBodies[0].replaceWith(body);
    return;
  }
  const made = element("table", {}, headOfNuclei(), body);
  made.dataset.index = shownImage.index;
  made.dataset.sort = sortName();
  made.setAttribute("aria-rowcount", String(order.length + 1));
  nuclei.replaceChildren(made);
}

function sortName() {
  return `${shownImage.sortedBy} ${shownImage.isDescending}`;
}

function cellOf(name, value) {
  if (name === "touches_border") return value ? "true" : "false";
  return name === "label" ? String(value) : shown(value);
}

function headOfNuclei() {
  return element("thead", {}, element("tr", {}, ...report.columns.map(({ name, meaning }) => {
    const button = element("button", { type: "button", textContent: name, title: meaning ?? "" });
    button.addEventListener("click", () => {
      shownImage.isDescending = shownImage.sortedBy === name && !shownImage.isDescending;
      shownImage.sortedBy = name;
      sortNuclei();
    });
    const head = element("th", { scope: "col" }, button);
    if (shownImage.sortedBy === name) head.ariaSort = shownImage.isDescending ? "descending" : "ascending";
    return head;
  })));
}

function setUpViewer() {
  const actions = {
    previous: () => step(-1), next: () => step(1), in: () => zoomBy(1.5), out: () => zoomBy(1 / 1.5),
    fit: () => { fit(); drawViewer(); }, close: () => viewer.close(),
  };
  const keys = { p: "previous", n: "next", "+": "in", "=": "in", "-": "out", 0: "fit" };
  const arrows = { ArrowLeft: [-60, 0], ArrowRight: [60, 0], ArrowUp: [0, -60], ArrowDown: [0, 60] };

  for (const button of viewer.querySelectorAll("[data-do]")) {
    button.addEventListener("click", actions[button.dataset.do]);
  }
  viewer.addEventListener("keydown", (event) => {
    if (event.target.matches("select, input:not([type=checkbox])") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (keys[event.key]) actions[keys[event.key]]();
    else if (event.key === "o") showOutlines(!outlinesAreShown);
    else if (event.target === canvas && arrows[event.key]) moveBy(...arrows[event.key]);
    else if (event.target === nuclei && ["ArrowUp", "ArrowDown"].includes(event.key)) {
      const place = shownImage.order.indexOf(shownImage.selected) + (event.key === "ArrowUp" ? -1 : 1);
      const next = shownImage.order[Math.min(Math.max(place, 0), shownImage.order.length - 1)];
      if (next !== undefined) select(next, { centre: true });
    } else return;
    event.preventDefault();
  });
  nuclei.addEventListener("scroll", showRows);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...placeOf(event));
  }, { passive: false });

  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    drag = { at: placeOf(event), hasMoved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [x, y] = placeOf(event);
    if (Math.hypot(x - drag.at[0], y - drag.at[1]) < 4 && !drag.hasMoved) return;
    moveBy(drag.at[0] - x, drag.at[1] - y);
    drag = { at: [x, y], hasMoved: true };
  });
  canvas.addEventListener("pointerup", async (event) => {
    if (drag && !drag.hasMoved) await select(await nucleusAt(...placeOf(event)));
    drag = null;
  });
  new ResizeObserver(() => {
    if (viewer.open) actions.fit();
  }).observe(canvas);
}
