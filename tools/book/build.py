"""Build the book into build/book, warnings as errors, ready to be read without a network."""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import tomllib
from itertools import chain
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "book" / "api"
VENDOR = ROOT / "build" / "vendor" / "vendor"
OUTPUT = ROOT / "build" / "book"
HTML = OUTPUT / "_build" / "html"
# What tex-chtml.js loads: its fonts, and the TeX extensions that a page may ask for.
MATHJAX_PARTS = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions")


def package_folder(name: str) -> Path:
    """The folder of an installed package, which need not be importable by name."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"The package {name} is missing: install the extra `book` first.")
    return Path(spec.origin).parent


def vendor() -> None:
    """Copy MathJax and plotly out of the installed packages, so that no page fetches them."""
    mathjax = package_folder("sphinx-mathjax-offline") / "static" / "mathjax"
    for part in MATHJAX_PARTS:
        source, target = mathjax / part, VENDOR / "mathjax" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    shutil.copy2(package_folder("plotly") / "package_data" / "plotly.min.js", VENDOR)


def lay_reference() -> None:
    """Lay an empty page for each floor of the library and each of its subpackages.

    The book's extension writes their text; no list of them is kept.
    """
    faces = (ROOT / "llmlib").glob("*/__init__.py"), (ROOT / "llmlib").glob("*/*/__init__.py")
    names = {".".join(face.parent.relative_to(ROOT).parts) for face in chain(*faces)}
    pages = {REFERENCE / f"{name}.rst" for name in names}
    for page in set(REFERENCE.glob("llmlib.*.rst")) - pages:
        page.unlink()
    for page in pages:
        page.touch()


def repository() -> str:
    """The project's public address, or nothing while it has none."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"].get("urls", {}).get("Repository", "").rstrip("/")


def configuration(address: str) -> Path:
    """The configuration to build with: the book's own, plus buttons once there is an address."""
    own = ROOT / "_config.yml"
    if not address:
        return own
    settings = yaml.safe_load(own.read_text(encoding="utf-8"))
    settings["repository"] = {"url": address, "branch": "main", "path_to_book": ""}
    settings["html"] |= {"use_repository_button": True, "use_issues_button": True}
    settings["launch_buttons"] |= {"colab_url": "https://colab.research.google.com"}
    derived = ROOT / "build" / "book_config.yml"
    derived.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return derived


def command(config: Path, *, incremental: bool) -> list[str]:
    """Jupyter Book's command line."""
    run = "from jupyter_book.cli.main import main; main()"  # the package has no `python -m` form
    line = [sys.executable, "-c", run, "build", ".", "--config", str(config)]
    line += ["--path-output", str(OUTPUT), "-W", "-n", "--keep-going"]
    return line if incremental else [*line, "--all"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--incremental",
        action="store_true",
        help="only pages that changed; warnings of the others are not repeated",
    )
    incremental = parser.parse_args().incremental
    start = time.perf_counter()
    vendor()
    lay_reference()
    if not incremental and HTML.exists():
        shutil.rmtree(HTML)  # a page that was removed must not linger
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command(configuration(repository()), incremental=incremental),
        cwd=ROOT,
        env=environment,
        check=False,
    )
    if done.returncode or not (HTML / "index.html").exists():
        print("The book was not built: see the warnings above.", file=sys.stderr)
        return done.returncode or 1
    print(f"The book was built in {time.perf_counter() - start:.0f} s. Open it in a browser:")
    print(f"    {(HTML / 'index.html').relative_to(ROOT)}")
    print(f"or serve it: {Path(sys.executable).name} -m http.server -d {HTML.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
