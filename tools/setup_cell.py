"""The set-up cell that stands second in every notebook, generated from the project's address.

On the reader's own machine it is silent, because the library is there. In Colab it installs the
library at one revision of the public repository, with torch held at the version that Colab has.
While the project has no address it says how to install by hand.
"""

from project import Address

BY_HAND = """\
# Set-up, written by tools/setup_cell.py: silent where the book's library is installed.
import importlib.util

if importlib.util.find_spec("llmlib") is None:
    print("The book's library is missing. Get a copy of the book's repository, and in its folder")
    print("run `make lab`, or `pip install -e .` in the environment of this notebook.")
"""

FROM_ADDRESS = """\
# Set-up, written by tools/setup_cell.py: silent where the book's library is installed.
import importlib.util
import subprocess
import sys
from importlib.metadata import version

if importlib.util.find_spec("llmlib") is None:
    book = "git+{repository}@{revision}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if "google.colab" in sys.modules:  # Colab's own torch stays
        held = f"torch=={{version('torch')}}"
        subprocess.run([*pip, held, f"{distribution} @ {{book}}"], check=True)
    else:
        print("The book's library is missing: run `make lab` in a copy of the repository, or")
        print(f"  pip install '{distribution} @ {{book}}'")
"""


def setup_cell(address: Address) -> str:
    """Return the cell's source for an address, which may be empty."""
    if not address.repository:
        return BY_HAND.rstrip()
    return FROM_ADDRESS.format(
        distribution=address.distribution,
        repository=address.repository,
        revision=address.revision,
    ).rstrip()
