"""Segments the image that is open in Fiji or ImageJ with nuclei-infer, and loads the outlines into the ROI Manager.

Fiji: File > Open... this file, then Run; or put it into Fiji's folder scripts/Plugins to have it in the menu.

The plane that is shown is segmented. nuclei-infer must be installed (pip install "nuclei-edge[cpu,formats]"). The
script looks for it in the PATH and otherwise asks once where it is, and remembers it.
"""

import os
import shutil
import subprocess
import tempfile

from ij import IJ, ImagePlus, Prefs
from ij.gui import GenericDialog
from ij.io import FileSaver, OpenDialog
from ij.measure import ResultsTable
from ij.plugin.frame import RoiManager

TITLE = "Segment nuclei"
COMMAND = "nuclei-infer"
OUTPUTS = "table,roi"
NAME = "plane"
EMPTY_ZIP_BYTES = 22  # the end of central directory record: APPNOTE.TXT of PKWARE, 4.3.16
REMEMBERED = "nuclei_edge.command"
STAINS = ["chosen for the image", "rgb", "he", "hdab"]
ON_WINDOWS = os.name == "nt" or getattr(os, "_name", "") == "nt"  # Jython calls every system "java"


class RefusedError(Exception):
    """What cannot be done, and what to do about it.

    Messages are joined with +, since str.format of Python 2 fails for text that is not ASCII.
    """


def find_command():
    """Return the path of nuclei-infer: the one that is remembered, or from the PATH; None if there is none."""
    names = [COMMAND + ".exe"] if ON_WINDOWS else [COMMAND]
    folders = [folder.strip('"') for folder in os.environ.get("PATH", "").split(os.pathsep)]
    candidates = [Prefs.get(REMEMBERED, "")]
    candidates += [os.path.join(folder, name) for folder in folders if folder for name in names]
    for path in candidates:
        if path and os.path.isfile(path):
            return path
    return None


def ask_for_command():
    """Let the user choose nuclei-infer, and remember the choice. A program from a desktop often has a short PATH."""
    where = "Scripts\\nuclei-infer.exe" if ON_WINDOWS else "bin/nuclei-infer"
    IJ.showMessage(
        TITLE,
        "nuclei-infer was not found in the PATH.\n \nIn the next window, choose it: it is the file " + where + "\n"
        'of the Python environment in which you ran pip install "nuclei-edge[cpu,formats]".',
    )
    chosen = OpenDialog("Where is nuclei-infer?", None).getPath()
    if chosen is None:
        raise RefusedError("nuclei-infer was not found, and none was chosen; nothing was segmented")
    Prefs.set(REMEMBERED, chosen)
    Prefs.savePreferences()
    return chosen


def shown_plane(image):
    """Return the plane that is shown, with the values of the file and its pixel size, but without its colours."""
    pixels = image.getProcessor().duplicate()
    if image.getType() == ImagePlus.COLOR_256:
        pixels = pixels.convertToRGB()  # the values are indices of colours
    elif image.getType() != ImagePlus.COLOR_RGB:
        pixels.setColorModel(pixels.getDefaultColorModel())  # a lookup table only changes how the values are shown
    plane = ImagePlus(NAME, pixels)
    plane.setCalibration(image.getCalibration().copy())
    return plane


def segment(image, command, diameter_px=0, stain=None):
    """Segment the plane that is shown, and return (zip of ROIs or None, table or None, text, folder to delete)."""
    folder = tempfile.mkdtemp(prefix="nuclei-edge-")
    source, out = os.path.join(folder, NAME + ".tif"), os.path.join(folder, "results")
    try:
        if not FileSaver(shown_plane(image)).saveAsTiff(source):
            raise RefusedError("the plane could not be saved in " + folder + "; is the disk full?")
        arguments = [command, source, "--out", out, "--save", OUTPUTS]
        if diameter_px > 0:
            arguments += ["--diameter", "{:g}".format(diameter_px)]
        if stain is not None:
            arguments += ["--stain", stain]
        try:
            utf8 = dict(os.environ, PYTHONUTF8="1")
            process = subprocess.Popen(arguments, env=utf8, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            text = process.communicate()[0].decode("utf-8", "replace")
        except OSError as error:
            Prefs.set(REMEMBERED, "")
            reason = error.strerror or "the system refused"
            raise RefusedError(command + " could not be started: " + reason + "; run this again and choose another one")
        if process.returncode != 0:
            raise RefusedError("nuclei-infer ended with exit code " + str(process.returncode) + ":\n" + text.strip())
        rois, table = os.path.join(out, "roi", NAME + ".zip"), os.path.join(out, "nuclei.csv")
        return [path if os.path.isfile(path) else None for path in (rois, table)] + [text, folder]
    except BaseException:
        shutil.rmtree(folder, True)
        raise


def load_outlines(image, rois):
    """Add the outlines to the ROI Manager, on the plane that was segmented; return how many there are."""
    manager = RoiManager.getInstance() or RoiManager()
    before = manager.getCount()
    if rois is not None and os.path.getsize(rois) > EMPTY_ZIP_BYTES:  # which ImageJ would report as an error
        manager.runCommand("Open", rois)
    added = manager.getRoisAsArray()[before:]
    for roi in added:
        if image.isHyperStack():
            roi.setPosition(image.getC(), image.getZ(), image.getT())
        elif image.getStackSize() > 1:
            roi.setPosition(image.getCurrentSlice())
    manager.runCommand(image, "Show All")
    return len(added)


def main():
    """Ask for the options, segment, and show the outlines and the table."""
    image = IJ.getImage()  # ImageJ itself says so if there is none
    dialog = GenericDialog(TITLE)
    dialog.addMessage("Segments the plane of " + image.getTitle() + " that is shown.")
    dialog.addNumericField("Diameter of the nuclei (0: chosen for the image)", 0, 0, 5, "px")
    dialog.addChoice("Stain of a colour image", STAINS, STAINS[0])
    dialog.showDialog()
    if dialog.wasCanceled():
        return
    diameter_px, stain = dialog.getNextNumber(), dialog.getNextChoice()
    try:
        command = find_command() or ask_for_command()
        IJ.showStatus("nuclei-infer is running")
        stain = None if stain == STAINS[0] else stain
        rois, table, text, folder = segment(image, command, diameter_px, stain)
        try:
            count = load_outlines(image, rois)
            if table is not None and count:
                ResultsTable.open(table).show("Nuclei of " + image.getTitle())
        finally:
            shutil.rmtree(folder, True)
        IJ.log(text.strip())
        IJ.showStatus("{} nuclei in the ROI Manager".format(count))
    except RefusedError as refused:
        IJ.error(TITLE, refused.args[0])  # str() would fail for text that is not ASCII


if __name__ in ("__main__", "__builtin__"):
    main()
