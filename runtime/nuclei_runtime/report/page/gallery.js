// Cards with the picture of each image. A card is drawn when it comes into view.

let colourBy = "";
let outlinesAreShown = true;
const CARD_PX = 320;

// The range of colours: the same for all images, so that these can be compared.
const colourScale = remembering(64, async (name) => {
  if (!name) return null;
  const all = (await column(name)).filter((value) => !Number.isNaN(value)).sort();
  if (!all.length) return null;
  const low = quantile(all, 0.02), high = quantile(all, 0.98);
  return { low, high: high > low ? high : low + 1 };
});

const drawings = new WeakMap(); // how often each canvas was drawn

// Draws a picture and the outlines in a canvas that shows `view`: {left, top, zoom} in pixels of the image.
async function drawImageOf(index, canvas, view, selected = -1) {
  const turn = (drawings.get(canvas) ?? 0) + 1;
  drawings.set(canvas, turn);
  const [picture, outlines, scale, measured, labels] = await Promise.all([
    pictureOf(index), outlinesAreShown ? outlinesOf(index) : { paths: [] }, colourScale(colourBy),
    colourBy ? column(colourBy) : null, column("label"),
  ]);
  if (drawings.get(canvas) !== turn) return; // another drawing was asked for meanwhile
  const context = canvas.getContext("2d");
  const { width, height } = sizeOf(index);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(view.zoom, 0, 0, view.zoom, -view.left * view.zoom, -view.top * view.zoom);
  if (picture) {
    context.imageSmoothingEnabled = (view.zoom * width) / picture.naturalWidth < 4;
    context.drawImage(picture, 0, 0, width, height);
  }
  const rows = rowsByLabel(index, labels);
  const line = canvas.width > CARD_PX ? 1.6 * devicePixelRatio : 1.4;
  const [right, bottom] = [view.left + canvas.width / view.zoom, view.top + canvas.height / view.zoom];
  outlines.paths.forEach((path, place) => {
    const box = outlines.boxes[place];
    if (box[2] < view.left || box[0] > right || box[3] < view.top || box[1] > bottom) return;
    const nucleus = rows.get(outlines.labels[place]);
    const value = measured && nucleus !== undefined ? measured[nucleus] : NaN;
    const isOut = nucleus !== undefined && !isNucleusKept(nucleus);
    const isSelected = nucleus !== undefined && nucleus === selected;
    if (scale && !isOut) {
      context.globalAlpha = 0.4;
      context.fillStyle = colourOf(value, scale);
      context.fill(path);
    }
    context.globalAlpha = isOut ? 0.3 : 1;
    context.lineWidth = (isSelected ? 4 : 2) * line / view.zoom;
    context.strokeStyle = isSelected ? "#fff" : "#0009"; // a dark rim, for bright pictures
    context.stroke(path);
    context.lineWidth = (isSelected ? 2 : 1) * line / view.zoom;
    context.strokeStyle = isSelected ? "#d55e00" : isOut ? "#999" : colourOf(value, scale);
    context.stroke(path);
  });
  context.globalAlpha = 1;
}

function colourOf(value, scale) {
  if (!scale) return PLAIN_COLOUR;
  return Number.isNaN(value) ? "#999" : viridis((value - scale.low) / (scale.high - scale.low));
}

// Which nucleus, among those of all images, has a label of an image.
function rowsByLabel(index, labels) {
  const rows = new Map();
  for (let i = starts[index]; i < starts[index + 1]; i++) rows.set(labels[i], i);
  return rows;
}

function nameOf(index) {
  const { image, scene, time, z } = images[index].row;
  return [image, scene && `scene ${scene}`, time && `time ${time}`, z && `Z ${z}`].filter(Boolean).join(", ");
}

function card(index) {
  const { row, flags, condition, well } = images[index];
  const canvas = element("canvas", { width: CARD_PX, height: CARD_PX });
  const words = row.status === "ok"
    ? [counted(countKept(index), "nucleus", "nuclei"), condition, well && `well ${well[3]}`]
    : ["failed"];
  const made = element("button", { type: "button", className: "card" }, canvas,
    element("b", { textContent: nameOf(index) }),
    element("span", { textContent: words.filter(Boolean).join(", ") }),
    ...flags.map(([, reason]) => element("span", { className: "flag", textContent: `⚠ ${reason}` })),
  );
  made.dataset.index = index;
  made.addEventListener("click", () => openViewer(index));
  inView.observe(canvas);
  return made;
}

const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) drawCard(target);
  }
}, { rootMargin: "300px" });

async function drawCard(canvas) {
  const index = Number(canvas.parentElement.dataset.index);
  const { width, height } = sizeOf(index);
  const zoom = CARD_PX / Math.max(width, height);
  await drawImageOf(index, canvas, { zoom, left: (width - CARD_PX / zoom) / 2, top: (height - CARD_PX / zoom) / 2 });
}

function refill(container, indices) {
  for (const canvas of container.querySelectorAll("canvas")) inView.unobserve(canvas);
  container.replaceChildren(...indices.map(card));
}

function showGallery() {
  const orders = {
    table: (a, b) => a - b,
    most: (a, b) => countKept(b) - countKept(a),
    fewest: (a, b) => countKept(a) - countKept(b),
    doubt: (a, b) => Number(images[a].row.expected_ap ?? 2) - Number(images[b].row.expected_ap ?? 2),
  };
  const good = kept.images.filter((index) => images[index].row.status === "ok");
  refill(document.getElementById("gallery"), good.sort(orders[document.getElementById("order").value]));
  refill(document.getElementById("flagged"), good.filter((index) => images[index].flags.length).sort((a, b) => a - b));
}

// Redraws what is in view, after a change of the colours or of the outlines.
async function redraw() {
  for (const canvas of document.querySelectorAll(".card canvas")) {
    inView.unobserve(canvas);
    inView.observe(canvas);
  }
  const name = colourBy, scale = await colourScale(name);
  if (name !== colourBy) return; // another one was chosen meanwhile
  for (const legend of document.querySelectorAll(".controls .legend")) legend.replaceChildren(...legendOf(scale));
  await drawViewer();
}

function setUpGallery() {
  for (const box of document.querySelectorAll("input.outlines")) {
    box.addEventListener("change", () => showOutlines(box.checked));
  }
  for (const select of document.querySelectorAll("select.colour")) {
    fillSelect(select, [["", "nothing"], ...measures.map((name) => [name, name])], "");
    select.addEventListener("change", () => {
      colourBy = select.value;
      for (const other of document.querySelectorAll("select.colour")) other.value = colourBy;
      redraw();
    });
  }
  document.getElementById("order").addEventListener("change", showGallery);
}

function showOutlines(areShown) {
  outlinesAreShown = areShown;
  for (const box of document.querySelectorAll("input.outlines")) box.checked = areShown;
  return redraw();
}
