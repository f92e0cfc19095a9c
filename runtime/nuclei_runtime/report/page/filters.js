// Which images and nuclei are shown. Every part of the page follows these.

const form = document.getElementById("filters");
const field = form.elements;
const kept = { images: images.map((_, index) => index), nuclei: null }; // nuclei: a Uint8Array, or null for all
let chosenWell = null; // [plate, row, column, name]

const values = (of) => [...new Set(images.flatMap(of).filter(Boolean))].sort();
const conditions = values((image) => image.condition);
const folders = values((image) => image.folder);
const flagNames = values((image) => image.flags.map(([name]) => name));

function isKept(index) {
  const { row, flags, condition, folder, well } = images[index];
  return (
    row.image.toLowerCase().includes(field.text.value.trim().toLowerCase()) &&
    (field.show.value === "all" || (field.show.value === "flagged") === flags.length > 0) &&
    (!field.flag.value || flags.some(([name]) => name === field.flag.value)) &&
    (!field.condition.value || condition === field.condition.value) &&
    (!field.folder.value || folder === field.folder.value) &&
    (!chosenWell || (well && well[0] === chosenWell[0] && well[3] === chosenWell[3]))
  );
}

async function keptNuclei() {
  const [low, high] = [field.low, field.high].map((input) => (input.value === "" ? null : stored(Number(input.value))));
  if (low === null && high === null && !field.border.checked) return null;
  const measured = await column(field.column.value);
  const touches = field.border.checked ? await column("touches_border") : null;
  const mask = new Uint8Array(nNuclei);
  for (let i = 0; i < nNuclei; i++) {
    const value = measured[i];
    const inRange = (low === null || value >= low) && (high === null || value <= high);
    mask[i] = inRange && !(touches && touches[i]) ? 1 : 0;
  }
  return mask;
}

function isNucleusKept(nucleus) {
  return !kept.nuclei || kept.nuclei[nucleus] === 1;
}

function countKept(index) {
  if (!kept.nuclei) return images[index].n;
  let n = 0;
  for (let i = starts[index]; i < starts[index + 1]; i++) n += kept.nuclei[i];
  return n;
}

let latest = 0;

async function applyFilters() {
  const turn = ++latest;
  const nuclei = await keptNuclei();
  if (turn !== latest) return; // another change came meanwhile
  kept.images = images.map((_, index) => index).filter(isKept);
  kept.nuclei = nuclei;
  const n = kept.images.reduce((sum, index) => sum + countKept(index), 0);
  document.getElementById("kept").value =
    `${kept.images.length.toLocaleString("en-US")} of ${counted(images.length, "image")}, ` +
    `${n.toLocaleString("en-US")} of ${counted(nNuclei, "nucleus", "nuclei")}`;
  const well = document.getElementById("well");
  well.hidden = !chosenWell;
  well.textContent = chosenWell ? `Well ${chosenWell[3]} only: show all` : "";
  showGallery();
  await Promise.all([showCharts(), showPlates()]);
}

function chooseWell(well) {
  chosenWell = well;
  return applyFilters();
}

function setUpFilters() {
  const any = ["", "any"];
  const offer = (name, found, least, nameOfValue = (value) => (value === "." ? "the folder itself" : value)) => {
    fillSelect(field[name], [any, ...found.map((value) => [value, nameOfValue(value)])], "");
    form.querySelector(`[data-for=${name}]`).hidden = found.length < least;
  };
  offer("flag", flagNames, 1, flagName);
  offer("condition", conditions, 1);
  offer("folder", folders, 2);
  fillSelect(field.column, measures.filter((name) => name !== "touches_border").map((name) => [name, name]), "");
  form.querySelector("[data-for=border]").hidden = !measures.includes("touches_border");
  form.addEventListener("input", applyFilters);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => chooseWell(null)));
  document.getElementById("well").addEventListener("click", () => chooseWell(null));
}
