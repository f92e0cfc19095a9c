// Heat maps of plates. Choosing a well keeps its images alone.

const plateNames = [...new Set(images.filter((image) => image.well).map((image) => image.well[0]))].sort();
const PLATE_SIZES = [[8, 12], [16, 24], [32, 48]]; // 96, 384 and 1536 wells

async function wellValue(members, what) {
  const good = members.filter((index) => images[index].row.status === "ok");
  if (!good.length) return NaN;
  if (what === "count") return good.reduce((sum, index) => sum + countKept(index), 0);
  if (what === "per-image") return good.reduce((sum, index) => sum + countKept(index), 0) / good.length;
  if (what === "doubt") {
    const promised = good.map((index) => images[index].row.expected_ap).filter(Boolean).map(Number);
    return promised.length ? Math.min(...promised) : NaN;
  }
  const sorted = await keptValues(what, good);
  return sorted.length ? quantile(sorted, 0.5) : NaN;
}

async function plateMap(plate) {
  const what = document.getElementById("plate-value").value;
  const wells = new Map();
  images.forEach(({ well }, index) => {
    if (well && well[0] === plate) wells.set(well[3], [...(wells.get(well[3]) ?? []), index]);
  });
  const places = [...wells.values()].map(([index]) => images[index].well);
  const [rows, columns] = PLATE_SIZES.find(([height, width]) => places.every((well) => well[1] < height && well[2] < width));
  const found = new Map();
  for (const [name, members] of wells) found.set(name, await wellValue(members, what));
  const all = [...found.values()].filter((value) => !Number.isNaN(value));
  const low = Math.min(...all), high = Math.max(...all);

  const cells = new Map(places.map((well) => [`${well[1]},${well[2]}`, well]));
  const rowNames = Array.from({ length: rows }, (_, row) => (row < 26 ? "" : "A") + String.fromCharCode(65 + (row % 26)));
  const made = element("table", { className: rows > 8 ? "plate dense" : "plate" },
    element("thead", {}, element("tr", {}, element("th"),
      ...Array.from({ length: columns }, (_, place) => element("th", { scope: "col", textContent: place + 1 })))),
    element("tbody", {}, ...rowNames.map((letter, row) => element("tr", {},
      element("th", { scope: "row", textContent: letter }),
      ...Array.from({ length: columns }, (_, place) => {
        const well = cells.get(`${row},${place}`);
        return element("td", {}, ...(well ? [wellButton(well, found.get(well[3]), low, high, rows > 8)] : []));
      })))),
  );
  made.createCaption().append(plate || report.title, " ", element("span", { className: "legend" },
    ...(all.length ? legendOf({ low, high: high > low ? high : low + 1 }) : [])));
  return made;
}

function wellButton(well, value, low, high, isDense) {
  const share = high > low ? (value - low) / (high - low) : 0.5;
  const text = Number.isNaN(value) ? "no value" : shown(value, 3);
  const button = element("button", { type: "button", title: `${well[3]}: ${text}`, textContent: isDense ? "" : text });
  button.setAttribute("aria-label", `Well ${well[3]}: ${text}`);
  button.setAttribute("aria-pressed", String(chosenWell?.[0] === well[0] && chosenWell?.[3] === well[3]));
  if (!Number.isNaN(value)) {
    button.style.background = viridis(share);
    button.style.color = share > 0.55 ? "#000" : "#fff";
  }
  button.addEventListener("click", () => chooseWell(button.ariaPressed === "true" ? null : well));
  return button;
}

async function showPlates() {
  if (!plateNames.length) return;
  const maps = [];
  for (const plate of plateNames) maps.push(await plateMap(plate));
  document.getElementById("plate-maps").replaceChildren(...maps);
}

function setUpPlates() {
  document.getElementById("plates").hidden = !plateNames.length;
  document.querySelector("nav [href='#plates']").hidden = !plateNames.length;
  fillSelect(document.getElementById("plate-value"), [
    ["per-image", "nuclei per image"], ["count", "nuclei in the well"], ["doubt", "lowest expected_ap"],
    ...measures.map((name) => [name, `median ${name}`]),
  ], "per-image");
  document.getElementById("plate-value").addEventListener("change", showPlates);
}
