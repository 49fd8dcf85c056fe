"""An answer before it is judged: read from a notebook's cells, measured where it runs."""
