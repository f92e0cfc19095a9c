"""Files of outlines -> label images: nuclei that a person drew or corrected in QuPath or Fiji."""
