"""A column of a table, which carries its meaning and its unit in the file."""

import pyarrow as pa


def column(
    name: str, kind: pa.DataType, doc: str, *, unit: str = "", nullable: bool = False
) -> pa.Field:
    """A field that carries its meaning and, where it is a quantity, its unit."""
    metadata = {"doc": doc} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


def doc(field: pa.Field) -> str:
    """Meaning of a column; empty in files of versions before 0.2.0."""
    return _metadata(field, b"doc")


def unit(field: pa.Field) -> str:
    """Unit of a column; empty for names, numbers of articles and the like."""
    return _metadata(field, b"unit")


def _metadata(field: pa.Field, key: bytes) -> str:
    value: bytes = (field.metadata or {}).get(key, b"")
    return value.decode()
