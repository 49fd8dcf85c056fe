"""Language identification by hashed character n-grams, trained on programs' translated messages.

Free programs carry their messages in dozens of languages, under the program's licence. Two web
frameworks teach the model here; a third program's messages, and prose, test it.
"""

import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from llmlib.core.cache import cache_dir
from llmlib.data.cleaning.classifiers.linear import LinearClassifier, LinearTraining
from llmlib.data.corpora.document import Document
from llmlib.data.corpora.wheels import PinnedWheel, fetch_wheel

DJANGO = PinnedWheel(
    name="django",
    version="5.2.8",
    sha256="37e687f7bd73ddf043e2b6b97cfe02fcbb11f2dbb3adccc6a2b18c6daa054d7f",
    licence="BSD-3-Clause",
)
WAGTAIL = PinnedWheel(
    name="wagtail",
    version="8.0.1",
    sha256="1e6ad5c7891a54efce1400e168298b5a2cc343b642cee89c31bf5ec30c98b26c",
    licence="BSD-3-Clause",
)
SPHINX = PinnedWheel(
    name="sphinx",
    version="7.4.7",
    sha256="c2419e2135d11f1951cd994d6eb18a1835bd8fdd8429f9ca375dc1f3281bd239",
    licence="BSD-2-Clause",
)

CATALOGUES: dict[str, tuple[str, ...]] = {
    "ar": ("ar",),
    "de": ("de",),
    "en": ("en",),
    "es": ("es",),
    "fr": ("fr",),
    "it": ("it",),
    "ja": ("ja",),
    "ko": ("ko",),
    "nl": ("nl",),
    "pl": ("pl",),
    "pt": ("pt", "pt_BR", "pt_PT"),
    "ru": ("ru",),
    "sv": ("sv",),
    "tr": ("tr",),
    "uk": ("uk", "uk_UA"),
    "zh": ("zh_Hans", "zh_Hant", "zh_CN", "zh_TW"),
}
"""ISO 639-1 codes of the languages, and the folders in which catalogues file them."""

LANGUAGES = tuple(CATALOGUES)
LANGUAGE_TRAINING = LinearTraining(
    unit="characters", orders=(1, 2, 3), buckets=2**14, epochs=3, batch=128
)

_ENTRY = re.compile(
    r'^(msgid|msgid_plural|msgstr(?:\[\d\])?) ((?:"(?:[^"\\]|\\.)*"\s*)+)', re.MULTILINE
)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
# Placeholders, markup and mark-up roles say nothing of the language, or say English. Their lengths
# are bounded, so that a long run is not read again from each of its characters.
_NOISE = re.compile(
    r"%\(\w{1,300}\)[sdr]|%[sdr]|\{[^}]{0,300}\}|<[^>]{0,300}>|&\w{1,300};|:\w{1,300}:|"
    r"`[^`]{0,300}`|https?://\S+|\S{1,300}@\S+"
)


def catalogue_messages(catalogue: str) -> Iterator[tuple[str, str]]:
    r"""Read the messages of a gettext catalogue.

    Yields:
        The English original and its translation, white space normalized, placeholders and markup
        taken out; plural forms one by one, fuzzy and empty entries left out.

    Example:
        >>> list(catalogue_messages('msgid "Delete %(name)s"\nmsgstr "%(name)s "\n"löschen"\n'))
        [('Delete', 'löschen')]
    """
    for block in catalogue.split("\n\n"):
        if re.search(r"^#(?:~|,.*\bfuzzy\b)", block, re.MULTILINE):
            continue
        original = ""
        for key, quoted in _ENTRY.findall(block):
            text = _plain("".join(_QUOTED.findall(quoted)))
            if key.startswith("msgid"):
                original = text
            elif original and text:
                yield original, text


def _plain(text: str) -> str:
    text = _ESCAPE.sub(lambda match: {"n": " ", "t": " "}.get(match[1], match[1]), text)
    return " ".join(_NOISE.sub(" ", text).split())


def language_messages(
    wheel: PinnedWheel, languages: Sequence[str] = LANGUAGES, *, min_bytes: int = 20
) -> dict[str, list[str]]:
    """Collect a program's different messages in several languages, sorted.

    English is the originals of the German catalogues. A translation equal to its original was
    never made, and is left out.

    Args:
        min_bytes: Shortest message, in UTF-8 bytes: about seven Chinese characters, or three
            English words.
    """
    found: dict[str, set[str]] = {language: set() for language in languages}
    folders = {folder: code for code in languages for folder in CATALOGUES[code]}
    if "en" in found:
        folders |= {"en": "", "de": "de"}
    with zipfile.ZipFile(fetch_wheel(wheel)) as archive:
        for path in archive.namelist():
            match = re.search(r"locale/(\w+)/LC_MESSAGES/\w+\.po$", path)
            if match is None or not folders.get(match[1]):
                continue
            code = folders[match[1]]
            for original, text in catalogue_messages(archive.read(path).decode("utf-8")):
                if code in found and text != original and len(text.encode()) >= min_bytes:
                    found[code].add(text)
                if match[1] == "de" and "en" in found and len(original.encode()) >= min_bytes:
                    found["en"].add(original)
    return {language: sorted(messages) for language, messages in found.items()}


def train_language_model(recipe: LinearTraining = LANGUAGE_TRAINING) -> LinearClassifier:
    """Train the identifier on the messages of Django and Wagtail: two wheels, 18 MB."""
    texts, labels = [], []
    for wheel in (DJANGO, WAGTAIL):
        for language, messages in language_messages(wheel).items():
            texts += messages
            labels += [language] * len(messages)
    return LinearClassifier.train(texts, labels, recipe)


@cache
def language_model() -> LinearClassifier:
    """Return the identifier, trained on the first call and kept in the cache after."""
    path = cache_dir("language") / f"{DJANGO.version}-{WAGTAIL.version}-v1.safetensors"
    if not path.exists():
        train_language_model().save(path)
    model = LinearClassifier.load(path)
    if model.recipe != LANGUAGE_TRAINING or model.classes != LANGUAGES:  # an earlier version's file
        train_language_model().save(path)
        model = LinearClassifier.load(path)
    return model


@dataclass(kw_only=True)
class LanguageFilter:
    """Keeps documents in the wanted languages.

    A language outside `LANGUAGES` gets the name of one inside, as with every closed list:
    `min_probability` catches a part of those.
    """

    keep: tuple[str, ...] = ("en",)
    min_probability: float = 0.5
    """Below this probability of the likeliest language the text is in none."""
    max_characters: int = 2000
    """How much of a document to look at, from its beginning."""
    model: LinearClassifier | None = field(default=None, repr=False)
    """The classifier; by default `language_model()`, fetched when first needed."""
    name: str = "language"

    def reason(self, document: Document) -> str | None:
        """Name a language that is not wanted, as in `language de`, or say `language unclear`."""
        self.model = self.model or language_model()
        text = document.text[: self.max_characters]
        if not any(map(str.isalpha, text)):
            return "language unclear"
        log_probability = self.model.log_probability([text])[0]
        best = int(log_probability.argmax())
        if log_probability[best] < _log(self.min_probability):
            return "language unclear"
        code = self.model.classes[best]
        return None if code in self.keep else f"language {code}"


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf
