"""Postal addresses: the commonest printed forms of some countries.

There are as many forms as post offices. These rules know a street with its number in some twenty
languages, and take town and postal code along where they stand behind it. What has no word such as
"street" (a farm, a house with a name) is missed, and so is most of what stands in several lines.
"""

from collections.abc import Iterator

import regex

from llmlib.data.privacy.folding import fold
from llmlib.data.privacy.spans import Span

_BEGIN = r"(?<![\w.,/:#-])(?<!\d )"
_END = r"(?![\p{L}\d])"
_WORD = r"(?:(?:Ste?|Sta|Dr|Mt|Ft|\p{Lu})\.(?=[ -]?\p{Lu})|\p{Lu}[\p{L}'’-]{0,24})"
_OF = r"(?:de|del|la|le|les|sur|am|an der|im|aan|den|of|upon|di|do|da)"
_TOWN = rf"{_WORD}(?: (?:{_OF} )?{_WORD}){{0,3}}"
# Millbrook, OR 97031 or Thornby, NR14 2QX or Fitzroy VIC 3065 or Ottawa, ON K1A 0B1
_UNIT = r"(?:Apt|Apartment|Suite|Ste|Unit|Floor|Flat|Room|Rm)"
_ENGLISH_TAIL = (
    rf"(?:,? {_UNIT}\.? ?#?\w{{1,5}}|,? #\w{{1,5}}|, ?\w+ Floor)?"
    rf"(?:(?:,[ \n]|,?\n| ){_TOWN}){{1,3}},? ?"
    r"(?:\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d"
    rf"|(?<=[A-Z]{{2,3}} )\d{{4}}){_END}"
)
# 04109 Leipzig, D-04109 Leipzig, 90-743 Łódź, 3512 AB Utrecht, 111 22 Stockholm
_CODE_AND_TOWN = (
    r"(?:, ?|,?\n| - | )(?:[A-Z]{1,2}-)?"
    rf"(?:\d\d-\d{{3}}|\d{{3}} \d\d|\d{{4}} ?[A-Z]{{2}}|\d{{4,6}}) {_TOWN}{_END}"
)
_HOUSE = r"\d{1,4}(?: ?[a-zA-Z](?!\p{L}))?(?:[-/]\d{1,4}[a-z]?)?(?!\d)"

# Words for a street, and those that count only with a town and its code behind the number.
_SURE = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Terrace|Crescent|Parkway"
    r"|Pkwy|Highway|Hwy|Close|Mews)"
)
_DOUBTFUL = r"(?:Court|Ct|Place|Pl|Way|Square|Sq|Circle|Trail|Grove|Gardens|Hill|Walk|Row|Quay)"
_MONTH = r"(?:(?:Jan|Febr)uary|March|April|May|June|July|August|(?:Septem|Octo|Novem|Decem)ber)"
_ENGLISH = regex.compile(
    rf"{_BEGIN}\d{{1,5}}[A-Za-z]?(?:[-/]\d{{1,4}})? "
    rf"(?!(?<=\b(?:[1-9]|[12]\d|3[01]) ){_MONTH}\b)"
    rf"(?:(?:{_WORD}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}?"
    rf"(?:{_SURE}\b(?:\.(?=,|\s+\p{{L}}))?(?: [NSEW]{{1,2}}\b)?(?:{_ENGLISH_TAIL})?"
    rf"|{_DOUBTFUL}\b\.?{_ENGLISH_TAIL})(?!\w)"
)
_LABEL_BEFORE = regex.compile(
    r"(?<!\w)(?:chapter|section|figure|fig|table|pages?|pp?|no|step|version)\.?\s$",
    regex.IGNORECASE,
)
_YEAR = regex.compile(
    r"(?<=\b(?:in|since|by|until|from|of|and|to|(?:jan|febr)uary|march|april|may|june|july|august"
    r"|(?:septem|octo|novem|decem)ber),?\s)(?:1[5-9]|20)\d\d ",
    regex.IGNORECASE,
)
_COMPOUND = (
    r"(?:straße|strasse|str\.|allee|gasse|chaussee|straat|laan|gracht|singel|steeg|gatan|vägen"
    r"|veien|vegen|utca|(?<!\b(?:Um|Rück|Hin|Heim|Aus))weg)"
)
_COMPOUND_DOUBTFUL = r"(?:platz|ufer|ring|damm|markt|plein|kade|dijk|gata|gade|vej|katu|tie)"
_ROMANCE_OF = r"(?:de la|del|de los|de las|de|della|dei|delle|dello|degli|di|da|das|dos|do|e|y)"
_ROMANCE = (
    r"(?:Calle|C/|Avenida|Avda\.?|Av\.|Plaza|Paseo|Carrera|Calzada|Via|Viale|Piazza|Corso|Largo"
    rf"|Vicolo|Rua|Travessa|Praça|Alameda|Estrada)(?: ?(?:{_ROMANCE_OF} )?{_WORD}){{1,4}}"
)
_FRENCH = r"(?i:rue|avenue|av\.|boulevard|bd|allée|chemin|impasse|quai)"
_FRENCH_DOUBTFUL = r"(?i:place|cours|route|square|passage)(?= (?:d|l[ae']))"  # English words too
_FRENCH_OF = r"(?:(?:de la|des|du|de|la|le|les|aux?|en|et|sur) |(?:de )?[ld]['’])"
_BOX = (
    r"(?:P\.? ?O\.? ?Box|Post Office Box|Postfach|Casilla|Apartado(?: de Correos)?|Caixa Postal"
    r"|Boîte postale|B\. ?P\.|Postbus|Postboks|Skrytka pocztowa|а/я)"
)
_PROVINCES = (
    r"(?:北京|天津|上海|重庆|重慶|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南"
    r"|湖北|湖南|广东|海南|四川|贵州|云南|陕西|甘肃|青海|台湾|臺灣|台北|内蒙古|广西|西藏|宁夏|新疆|香港|澳门)"
)
_KOREAN_PROVINCES = (
    r"(?:서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충[청북남]|전[라북남]|경[상북남]|제주)"
)
# Each form, with strings of which one is in every match: most texts need no closer look.
_FORMS = [
    (
        "Box Postf Casilla Apartado Caixa postale B. Postb pocztowa а/я",
        rf"{_BEGIN}{_BOX} (?:№ ?)?\d{{1,6}}(?:{_ENGLISH_TAIL}|{_CODE_AND_TOWN})?{_END}",
    ),
    (  # German, Dutch, Nordic, Hungarian
        "tra str. Str. llee asse chaussee laan gracht singel steeg gatan vägen veien vegen utca"
        " weg",
        rf"{_BEGIN}(?:\p{{Lu}}[\p{{L}}-]{{0,32}}{_COMPOUND}|(?:{_WORD}[ -]){{1,3}}"
        rf"(?:Straße|Strasse|Str\.|Allee|Gasse|utca)) {_HOUSE}(?:{_CODE_AND_TOWN})?{_END}",
    ),
    (
        "latz ufer Ufer ing amm arkt plein kade dijk gata gade vej katu tie Am An Im In Auf Zu Weg"
        " Unter",
        rf"{_BEGIN}(?:\p{{Lu}}[\p{{L}}-]{{0,32}}{_COMPOUND_DOUBTFUL}"
        rf"|(?:Am|An de[rmn]|Im|In de[rn]|Auf de[rmn]|Zu[mr]|Unter den)(?: {_WORD}){{1,3}}"
        rf"|(?:{_WORD}[ -]){{1,3}}(?:Weg|Platz|Ring|Damm|Ufer|Markt)) {_HOUSE}{_CODE_AND_TOWN}",
    ),
    (
        "rue Rue venue av. oulevard bd place allée hemin mpasse quai ours oute quare assage",
        rf"{_BEGIN}\d{{1,4}}(?: ?(?:bis|ter|quater))?,? (?:{_FRENCH}|{_FRENCH_DOUBTFUL}) "
        rf"(?:{_FRENCH_OF}{{0,2}}{_WORD} ?){{1,4}}(?<! )(?:{_CODE_AND_TOWN})?{_END}",
    ),
    (
        "Calle C/ Av Plaza Paseo Carrera Calzada Via Piazza Corso Largo Vicolo Rua Travessa Praça"
        " Alameda Estrada",
        rf"{_BEGIN}{_ROMANCE}(?:(?:,? n[.ºo°]+ ?|,? No\.? ?| ){_HOUSE}(?! ?(?:km|m|%)\b)"
        rf"(?:{_CODE_AND_TOWN})?{_END}|, {_HOUSE}(?:{_CODE_AND_TOWN}{_END}|(?! \p{{Ll}}){_END}))",
    ),
    (  # Colombian crossings
        "Calle Carrera Cra Avenida Transversal Diagonal",
        rf"{_BEGIN}(?:Calle|Carrera|Cra\.?|Avenida|Transversal|Diagonal) \d{{1,3}}[A-Z]? ?"
        rf"(?:#|No\.?) ?\d{{1,3}}[A-Z]? ?- ?\d{{1,3}}{_END}",
    ),
    (
        "ul. al. os. pl.",
        rf"{_BEGIN}(?:ul|al|os|pl)\.(?: (?:\d{{1,2}} )?{_WORD}){{1,4}} {_HOUSE}(?: m\. ?\d+)?"
        rf"(?:{_CODE_AND_TOWN})?{_END}",
    ),
    (
        "ул. улица вул. вулиця пр. пр-т проспект пер. переулок наб. бул. бульвар ш.",
        rf"{_BEGIN}(?:ул\.|улица|вул\.|вулиця|пр\.|пр-т|проспект|пер\.|переулок|наб\.|бул\."
        rf"|бульвар|ш\.)(?: {_WORD}){{1,3}},? (?:(?:д\.|дом|буд\.) ?)?\d{{1,4}}[а-яА-Я]?(?:/\d+)?"
        rf"(?:,? (?:корп|стр|кв|к)\. ?\d+){{0,3}}{_END}",
    ),
    (
        "Cad Sok",
        rf"{_BEGIN}(?:{_WORD} (?:Mah\.|Mahallesi),? )?(?:{_WORD} ){{1,3}}"
        rf"(?:Caddesi|Cad\.|Sokağı|Sokak|Sok\.),? (?:No ?[:.] ?)?\d{{1,4}}[A-Z]?(?:/\d+)?{_END}",
    ),
    (
        "路 街 大道 巷 弄 胡同",
        rf"(?:{_PROVINCES}|(?<=[在于於至到::,,。\s]|^)(?=\p{{Han}}{{1,4}}[市县縣区區]))"
        r"\p{Han}{0,24}?(?:路|街|大道|巷|弄|胡同)(?:[一二三四五六七八九十]{1,3}段)?\d{1,5}[号號弄]"
        r"(?:之\d+)?(?:院|大厦)?(?:\d{1,4}(?:号楼|栋|幢|单元|室|楼|樓|层)){0,4}",
    ),
    (
        "都 道 府 県",
        r"(?:〒? ?\d{3}-\d{4} ?)?(?:東京都|北海道|京都府|大阪府|(?<!\p{Han})\p{Han}{2,3}県)"
        r"[\p{Han}\p{Hiragana}\p{Katakana}ーヶケ]{2,24}?\d{1,4}(?:(?:丁目|番地?|号|-)\d{1,4}){0,3}"
        r"(?:丁目|番地?|号)?(?!\d)",
    ),
    (
        "로 길",
        rf"{_KOREAN_PROVINCES}\p{{Hangul}}{{0,7}} (?:\p{{Hangul}}{{1,6}}[시군구읍면] ){{0,3}}"
        r"[\p{Hangul}\d]{1,12}(?:로|길)(?: ?\d{1,4}번길)? ?\d{1,4}(?:-\d{1,4})?(?!\d)",
    ),
]
_RULES = [(hints.split(), regex.compile(form)) for hints, form in _FORMS]


def find_addresses(text: str) -> Iterator[Span]:
    """Find postal addresses that have a street and a number, with the town where a code tells it.

    Spans may overlap.

    Example:
        >>> [span.text for span in find_addresses("Visit 48 Rowan Street, Millbrook, OR 97031.")]
        ['48 Rowan Street, Millbrook, OR 97031']
    """
    plain = fold(text)
    found = [match.span() for match in _ENGLISH.finditer(plain) if _is_house(plain, *match.span())]
    for hints, pattern in _RULES:
        if any(hint in plain for hint in hints):
            found += [match.span() for match in pattern.finditer(plain)]
    for start, stop in found:
        yield Span(start, stop, "address", text[start:stop])


def _is_house(plain: str, start: int, stop: int) -> bool:
    """Whether the number is a house's, not a chapter's or a year; digits behind it make it sure."""
    if regex.search(r"\d", plain[start + 5 : stop]):
        return True
    labelled = _LABEL_BEFORE.search(plain, max(0, start - 12), start)
    return not labelled and not _YEAR.match(plain, start)
