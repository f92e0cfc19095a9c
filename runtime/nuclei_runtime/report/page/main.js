// Fills the page, and starts it.

const chosenMeasure = document.getElementById("measure");
const chosenGroup = document.getElementById("group");

// The sorted values of a measurement, for the nuclei of some images that the filters keep.
async function keptValues(name, indices) {
  const all = await column(name);
  const found = new Float32Array(indices.reduce((sum, index) => sum + images[index].n, 0));
  let n = 0;
  for (const index of indices) {
    for (let i = starts[index]; i < starts[index + 1]; i++) {
      if (isNucleusKept(i) && !Number.isNaN(all[i])) found[n++] = all[i];
    }
  }
  return found.subarray(0, n).sort();
}

async function showCharts() {
  const name = chosenMeasure.value;
  if (!name) return;
  const groupOf = {
    condition: (image) => image.condition || "no condition",
    folder: (image) => (image.folder === "." ? "the folder itself" : image.folder),
    well: (image) => (image.well ? [plateNames.length > 1 && image.well[0], image.well[3]].filter(Boolean).join("/") : "no well"),
    image: (image) => image.row.image,
    all: () => "all",
  }[chosenGroup.value];
  const members = new Map();
  for (const index of kept.images) {
    if (images[index].row.status !== "ok") continue;
    const group = groupOf(images[index]);
    if (!members.has(group)) members.set(group, []);
    members.get(group).push(index);
  }
  const groups = [];
  for (const [group, indices] of [...members].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))) {
    const values = await keptValues(name, indices);
    if (values.length) groups.push({ name: group, values, nImages: indices.length });
  }
  const meaning = report.columns.find((one) => one.name === name).meaning;
  const nKept = kept.images.reduce((sum, index) => sum + countKept(index), 0);
  const nMissing = nKept - groups.reduce((sum, group) => sum + group.values.length, 0);
  document.getElementById("meaning").textContent = (meaning ? `${name}: ${meaning}. ` : "") +
    (nMissing ? `${counted(nMissing, "nucleus has", "nuclei have")} no value: the charts leave ${nMissing > 1 ? "them" : "it"} out.` : "");
  for (const [id, draw] of [["histogram", histogram], ["boxes", boxPlots]]) {
    document.getElementById(id).replaceChildren(...(groups.length ? [draw(groups, name)] : ["No nuclei are left."]));
  }
  document.getElementById("numbers").replaceChildren(table(
    ["group", "images", "nuclei", "lower quartile", "median", "upper quartile"],
    groups.map(({ name: group, values, nImages }) => [group, nImages.toLocaleString("en-US"),
      values.length.toLocaleString("en-US"), ...[0.25, 0.5, 0.75].map((share) => shown(quantile(values, share), 4))]),
    (place) => place === 0, `${name}: median and quartiles of the nuclei that are kept`,
  ));
}

function setUpCharts() {
  const haveSizes = images.every(({ row, n }) => !n || row.pixel_height_um);
  const preferred = [haveSizes && "area_um2", "area_px"].find((name) => measures.includes(name)) ?? measures[0];
  fillSelect(chosenMeasure, measures.map((name) => [name, name]), preferred);
  const groupings = [
    conditions.length && ["condition", "condition"], folders.length > 1 && ["folder", "folder"],
    plateNames.length && ["well", "well"], ["all", "nothing"], ["image", "image"],
  ].filter(Boolean);
  fillSelect(chosenGroup, groupings, groupings[0][0]);
  chosenMeasure.addEventListener("change", showCharts);
  chosenGroup.addEventListener("change", showCharts);
  const missing = report.left_out.length ? ` Not in this report, but in nuclei.csv: ${report.left_out.join(", ")}.` : "";
  document.getElementById("rounding").textContent =
    "Boxes reach from the lower to the upper quartile, whiskers to the last nucleus within 1.5 times that length. " +
    "The charts leave out the outermost thousandth of each group on both sides; the table does not." +
    (report.n_dropped_bits ? " So many values are rounded in this report, each by at most 0.05 %; nuclei.csv has them in full." : "") +
    missing;
}

function showHead() {
  const failed = images.filter(({ row }) => row.status !== "ok");
  const flagged = images.filter(({ row, flags }) => row.status === "ok" && flags.length);
  document.querySelector("h1").textContent = report.title;
  document.getElementById("lead").textContent =
    `${counted(images.length, "image")}, ${counted(nNuclei, "nucleus", "nuclei")}; ` +
    `${failed.length} failed, ${flagged.length} to look at`;
  document.getElementById("nothing").hidden = failed.length + flagged.length > 0;
  if (failed.length) {
    document.getElementById("failed").append(table(["image", "why it failed"],
      failed.map((image) => [nameOf(images.indexOf(image)), wordsOf(image.flags)]), () => true));
  }
  const ofOverlays = images.filter(({ picture }) => picture === "overlay").length;
  const without = images.filter(({ row, outlines, n }) => row.status === "ok" && n && !outlines).length;
  const notes = [
    ofOverlays && `${counted(ofOverlays, "picture")} made of overlays, whose own outlines cannot be switched off`,
    without && `${counted(without, "image")} without outlines: there is no label image, or the report would be too large`,
  ].filter(Boolean);
  document.getElementById("picture-note").hidden = !notes.length;
  document.getElementById("picture-note").textContent = `${notes.join("; ")}.`;
}

function showTables() {
  const header = Object.keys(report.summary[0] ?? {});
  document.getElementById("summary-table").append(
    table(header, report.summary.map((row) => header.map((name) => row[name])), (place) => place < 2));
  document.getElementById("provenance").append(table(["what", "value"], report.provenance, () => true));
  document.getElementById("citation").textContent = report.citation;
}

async function start() {
  showHead();
  showTables();
  setUpFilters();
  setUpCharts();
  setUpPlates();
  setUpGallery();
  setUpViewer();
  await applyFilters();
  document.body.dataset.ready = "true";
}

start().catch((error) => {
  const trouble = document.getElementById("trouble");
  trouble.hidden = false;
  trouble.textContent = `The report could not be shown (${error}). It needs a browser of 2023 or newer: Chrome or Edge ` +
    "103, Firefox 113, Safari 16.4.";
  throw error;
});
