"""Files -> planes: what each format holds, read as far as it is needed."""
