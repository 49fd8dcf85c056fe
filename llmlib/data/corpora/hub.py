"""Any text data set of the Hugging Face Hub, or a local folder of the same format."""

from collections.abc import Iterator

from llmlib.data.corpora.document import Document


def hub_texts(
    name: str,
    config: str | None = None,
    *,
    split: str = "train",
    field: str = "text",
    streaming: bool = True,
) -> Iterator[Document]:
    """Read the texts of a data set one by one, while they are being downloaded if need be.

    Args:
        name: Name on the Hub, such as `HuggingFaceFW/fineweb-edu`, or a local folder with Parquet
            or JSON-lines files.
        streaming: Whether to read without storing the data set on disk first.

    Yields:
        The documents that are not blank; `meta["module"]` is the row's number.
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "reading data sets from the Hub needs the package `datasets`: install this project "
            "with its `hub` extra"
        ) from error
    rows = datasets.load_dataset(name, config, split=split, streaming=streaming)
    for number, row in enumerate(rows):
        text = row.get(field)
        if not isinstance(text, str):
            raise ValueError(
                f"{name}, row {number}: column {field!r} holds no text. The columns are "
                f"{sorted(row)}."
            )
        if text.strip():
            yield Document(text=text, source=name, meta={"module": f"{name}:{number}"})
