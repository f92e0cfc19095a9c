/**
 * Segments the image that is open in QuPath (0.5 or newer) with nuclei-infer, and adds the nuclei as detections.
 *
 * Automate > Script editor, open this file, Run. If annotations are selected, only the nuclei in them are found;
 * otherwise those of the whole plane that is shown. Detections that are already there are replaced.
 *
 * nuclei-infer must be installed: pip install "nuclei-edge[cpu]"
 */

import java.awt.geom.AffineTransform
import java.nio.charset.StandardCharsets
import java.nio.file.Files
import java.nio.file.Path
import qupath.fx.dialogs.Dialogs
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObjectTools
import qupath.lib.regions.ImagePlane
import qupath.lib.regions.RegionRequest

// ---- What you may want to change ----
String nucleiInfer = ""          // the full path of nuclei-infer, if it is not in the PATH; on Windows with / or \\
String channel = ""              // of fluorescence images with several channels: the name of the one with the nuclei
double diameterPx = 0            // median diameter of the nuclei in pixels; 0: chosen for the image
String stain = ""                // of colour images: rgb, he or hdab; empty: chosen for the image
double maxMegapixels = 400       // larger regions are refused: select an annotation
// --------------------------------------

String title = "Segment nuclei"
String name = "region"
int marginPx = 100               // around an annotation, so that no nucleus in it is cut

String findCommand(String given) {
    boolean onWindows = System.getProperty("os.name").toLowerCase().contains("windows")
    if (!given.isEmpty())
        return new File(given).isFile() ? given : null
    String program = onWindows ? "nuclei-infer.exe" : "nuclei-infer"
    for (String folder in (System.getenv("PATH") ?: "").split(File.pathSeparator)) {
        File file = new File(folder, program)
        if (file.isFile())
            return file.getPath()
    }
    return null
}

// Measurements of places, which count from the corner of a region, count from that of the image afterwards.
void placeInImage(measured, int left, int top, int width, int height, double pixelWidthUm, double pixelHeightUm) {
    def shifts = [centroid_row_px: top, bbox_top_px: top, bbox_bottom_px: top, centroid_row_um: top * pixelHeightUm,
        centroid_column_px: left, bbox_left_px: left, bbox_right_px: left, centroid_column_um: left * pixelWidthUm]
    shifts.each { name, shift ->
        if (measured.containsKey(name))
            measured.put(name, measured.get(name) + shift)
    }
    boolean touches = measured.get("bbox_top_px") <= 0 || measured.get("bbox_left_px") <= 0 ||
        measured.get("bbox_bottom_px") >= height || measured.get("bbox_right_px") >= width
    measured.put("touches_border", touches ? 1 : 0)
}

def imageData = getCurrentImageData()
if (imageData == null) {
    Dialogs.showErrorMessage(title, "No image is open; open one, and run the script again.")
    return
}
String command = findCommand(nucleiInfer)
if (command == null) {
    Dialogs.showErrorMessage(title, (nucleiInfer.isEmpty() ? "nuclei-infer was not found in the PATH."
        : "There is no file " + nucleiInfer + ".") +
        " Write its full path into the line nucleiInfer of this script: it is Scripts\\nuclei-infer.exe (Windows) or " +
        "bin/nuclei-infer (macOS, Linux) of the Python environment in which you ran pip install \"nuclei-edge[cpu]\".")
    return
}

def server = imageData.getServer()
def channels = server.getMetadata().getChannels().collect { it.getName() }
if (!server.isRGB() && channels.size() > 1 && !channels.contains(channel)) {
    Dialogs.showErrorMessage(title, "The image has the channels " + channels.join(", ") +
        ". Write the one with the nuclei into the line channel of this script.")
    return
}

def pixel = server.getPixelCalibration()
def annotations = getSelectedObjects().findAll { it.isAnnotation() && it.hasROI() && it.getROI().isArea() }
def viewer = getCurrentViewer()
def plane = viewer == null ? ImagePlane.getDefaultPlane() : viewer.getImagePlane()
def requests = annotations.isEmpty()
    ? [RegionRequest.createInstance(server.getPath(), 1.0, 0, 0, server.getWidth(), server.getHeight(), plane.getZ(), plane.getT())]
    : annotations.collect {
        def bounds = RegionRequest.createInstance(server.getPath(), 1.0, it.getROI())
        int left = Math.max(bounds.getX() - marginPx, 0)
        int top = Math.max(bounds.getY() - marginPx, 0)
        int right = Math.min(bounds.getX() + bounds.getWidth() + marginPx, server.getWidth())
        int bottom = Math.min(bounds.getY() + bounds.getHeight() + marginPx, server.getHeight())
        return RegionRequest.createInstance(server.getPath(), 1.0, left, top, right - left, bottom - top, bounds.getZ(), bounds.getT())
    }
def tooLarge = requests.find { it.getWidth() * (double) it.getHeight() > maxMegapixels * 1e6 }
if (tooLarge != null) {
    Dialogs.showErrorMessage(title, String.format("%d x %d pixels are more than maxMegapixels of this script; select " +
        "smaller annotations, or segment the file itself with nuclei-infer --save geojson, and drag the .geojson here.",
        tooLarge.getWidth(), tooLarge.getHeight()))
    return
}

int count = 0
for (int i = 0; i < requests.size(); i++) {
    def request = requests[i]
    def within = annotations.isEmpty() ? null : annotations[i]
    Path folder = Files.createTempDirectory("nuclei-edge-")
    try {
        Path image = folder.resolve(name + ".ome.tif")
        writeImageRegion(server, request, image.toString())
        Path out = folder.resolve("results")
        List<String> words = [command, image.toString(), "--out", out.toString(), "--save", "geojson"]
        if (!server.isRGB() && channels.size() > 1)
            words.addAll(["--channel", channel])
        if (diameterPx > 0)
            words.addAll(["--diameter", String.valueOf(diameterPx)])
        if (!stain.isEmpty())
            words.addAll(["--stain", stain])
        println "Running " + words.join(" ")
        Process process
        try {
            def builder = new ProcessBuilder(words).redirectErrorStream(true)
            builder.environment().put("PYTHONUTF8", "1")
            process = builder.start()
        } catch (IOException error) {
            Dialogs.showErrorMessage(title, command + " could not be started: " + error.getMessage())
            return
        }
        process.getOutputStream().close()
        String text = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8)
        int exitCode = process.waitFor()
        println text.trim()
        if (exitCode != 0) {
            Dialogs.showErrorMessage(title, "nuclei-infer ended with exit code " + exitCode + ":\n" + text.trim())
            return
        }
        Path outlines = out.resolve("geojson").resolve(name + ".ome.geojson")
        def found = PathIO.readObjects(outlines)
        def shift = AffineTransform.getTranslateInstance(request.getX(), request.getY())
        def nuclei = found.collect {
            // New identifiers: those in the file are the same in each region.
            def moved = PathObjectTools.transformObject(it, shift, true, true)
            moved = PathObjectTools.updatePlane(moved, request.getImagePlane(), true, true)
            moved.setName(it.getName())
            placeInImage(moved.getMeasurementList(), request.getX(), request.getY(), server.getWidth(),
                server.getHeight(), pixel.getPixelWidthMicrons(), pixel.getPixelHeightMicrons())
            return moved
        }
        if (within != null)
            nuclei = nuclei.findAll { within.getROI().contains(it.getROI().getCentroidX(), it.getROI().getCentroidY()) }
        def former = getDetectionObjects().findAll {
            def roi = it.getROI()
            return roi != null && roi.getImagePlane() == request.getImagePlane() &&
                (within == null || within.getROI().contains(roi.getCentroidX(), roi.getCentroidY()))
        }
        removeObjects(former, true)
        addObjects(nuclei)
        count += nuclei.size()
    } finally {
        folder.toFile().deleteDir()
    }
}
resolveHierarchy()
println title + ": " + count + " nuclei"
