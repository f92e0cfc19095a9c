"""A nuclei table as Parquet, for R, Python and databases. Needs the extra `formats`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PART_BYTES = 8 << 20
"""How much of the CSV table is in memory at a time. Each part becomes a row group."""


MARK = "nuclei_edge.table"
"""Key in the metadata of the file. A program that writes the table again leaves it out."""


def write_parquet(table: Path, kinds: Mapping[str, type], target: Path) -> None:
    """Write a CSV table of the style ``comma`` as Parquet; empty cells become null.

    Parameters
    ----------
    table : Path
    kinds : mapping of str to type
        For each column str, bool, int or float.
    target : Path
        The new file.
    """
    import pyarrow
    from pyarrow import csv, parquet

    types = {str: pyarrow.string(), bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
    # Opened here, because pyarrow takes only paths in UTF-8.
    with table.open("rb") as source, target.open("wb") as sink:
        reader = csv.open_csv(
            source,
            csv.ReadOptions(use_threads=False, block_size=PART_BYTES),
            csv.ParseOptions(newlines_in_values=True),
            csv.ConvertOptions(
                column_types={name: types[kind] for name, kind in kinds.items()},
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        schema = reader.schema.with_metadata({MARK: "nuclei"})
        with reader, parquet.ParquetWriter(sink, schema, compression="zstd") as written:
            for batch in reader:
                written.write_batch(batch)
