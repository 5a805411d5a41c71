#!/usr/bin/env bash
# pyarrow 26.0.1, polars 2.1.0, duckdb 2.0.1: directories model=NAME are read as values, by three
# different rules. Names that one reader keeps apart are one value in another, and no reader says a
# word: a mean by model is then a mean over two models.
#
# Seen: how many values two names become:
#   1, 01                  pyarrow 1  polars 1  duckdb 2
#   0x10, 16               pyarrow 1  polars 2  duckdb 1
#   1e3, 1000              pyarrow 2  polars 1  duckdb 2
#   2024-01-01, 2024-1-1   pyarrow 2  polars 1  duckdb 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

expected = {
    ("1", "01"): (1, 1, 2),
    ("0x10", "16"): (1, 2, 1),
    ("1e3", "1000"): (2, 1, 2),
    ("2024-01-01", "2024-1-1"): (2, 1, 1),
}
for number, (names, counts) in enumerate(expected.items()):
    root = Path(str(number))
    for name in names:
        (root / f"model={name}").mkdir(parents=True)
        pq.write_table(pa.table({"x": [1.0]}), root / f"model={name}" / "part.parquet")
    files = f"{root}/*/*.parquet"
    query = f"select model from read_parquet('{files}', hive_partitioning=true)"
    read = (
        ds.dataset(root, partitioning="hive").to_table()["model"].to_pylist(),
        polars.read_parquet(files, hive_partitioning=True)["model"].to_list(),
        [row[0] for row in duckdb.sql(query).fetchall()],
    )
    print(names, *read)
    assert tuple(len(set(values)) for values in read) == counts, names
PYTHON
