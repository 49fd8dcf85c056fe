"""Faults of data: tokenizers, cleaning, deduplication, privacy."""

import re
from collections.abc import Callable, Iterator

from llmlib.data.privacy.checked_numbers import find_cards, find_ibans, luhn_valid
from llmlib.data.privacy.contacts import find_emails, find_ips
from llmlib.data.privacy.phones import find_phones
from llmlib.data.privacy.spans import Span
from museum.exhibit import Exhibit

# What detectors of personal items missed. Each implementation returns the items of a text.


def _found(finder: Callable[[str], Iterator[Span]]) -> Callable[[str], list[str]]:
    return lambda text: [span.text for span in finder(text)]


def _accounts_of_listed_countries(text: str) -> list[str]:
    lengths = {"DE": 22, "FR": 27, "GB": 22, "ES": 24, "IT": 27, "NL": 18, "CH": 21, "AT": 20}
    numbers = re.findall(r"\b[A-Z]{2}\d\d[A-Z0-9]{11,30}\b", text)
    remainders = {n: int("".join(str(int(c, 36)) for c in n[4:] + n[:4])) % 97 for n in numbers}
    return [n for n in numbers if remainders[n] == 1 and lengths.get(n[:2]) == len(n)]


def _plausible_accounts(accounts: Callable[[str], list[str]]) -> None:
    assert accounts("to DE89370400440532013000 now") == ["DE89370400440532013000"]
    assert accounts("to DE89370400440532013001 now") == []


def _accounts_of_all_countries(accounts: Callable[[str], list[str]]) -> None:
    for number in ("EG380019000500000000263180002", "LC55HEMM000100010012001200023015"):
        assert accounts(f"to {number} now") == [number]


def _cards_of_the_first_networks(text: str) -> list[str]:
    pattern = r"\b(?:4\d{3}|5[0-5]\d{2}|6\d{3}|1\d{3}|3\d{3})[- ]?\d{3,4}[- ]?\d{3,4}[- ]?\d{3,5}\b"
    return [n for n in re.findall(pattern, text) if luhn_valid(re.sub(r"\D", "", n))]


def _plausible_cards(cards: Callable[[str], list[str]]) -> None:
    assert cards("paid with 4111 1111 1111 1111.") == ["4111 1111 1111 1111"]
    assert cards("paid with 378282246310005.") == ["378282246310005"]
    assert cards("paid with 4111 1111 1111 1112.") == []


def _cards_of_later_networks(cards: Callable[[str], list[str]]) -> None:
    assert cards("paid with 2221000000000009.") == ["2221000000000009"]
    assert cards("paid with 6205500000000000004.") == ["6205500000000000004"]


def _addresses_up_to_the_gap(text: str) -> list[str]:
    group = "[0-9A-Fa-f]{1,4}"
    pattern = rf"\b(?:(?:{group}:){{7}}{group}|(?:{group}:){{1,7}}:|(?:{group}:){{1,6}}:{group})"
    return re.findall(pattern, text)


def _plausible_machine_addresses(addresses: Callable[[str], list[str]]) -> None:
    whole = "2345:0425:2ca1:0000:0000:0567:5673:23b5"
    assert addresses(f"from {whole} at noon") == [whole]
    assert addresses("nothing at 12:30") == []


def _addresses_behind_the_gap(addresses: Callable[[str], list[str]]) -> None:
    assert addresses("from 2345:425:2ca1::567:5673:23b5") == ["2345:425:2ca1::567:5673:23b5"]
    assert addresses("no address: 2001::25de::cade") == []


def _numbers_of_listed_regions(text: str) -> list[str]:
    forms = {
        "US": r"\(\d{3}\) \d{3}-\d{4}",
        "GB": r"\b0\d{3} \d{3} \d{4}\b",
        "DE": r"\b0\d{2,4} \d{5,8}\b",
        "FR": r"\b0[1-9](?: \d\d){4}\b",
    }
    regions = ("US", "GB", "DE", "FE")
    return [n for region in regions for n in re.findall(forms.get(region, r"(?!)"), text)]


def _plausible_numbers(numbers: Callable[[str], list[str]]) -> None:
    assert numbers("call (202) 555-0147") == ["(202) 555-0147"]
    assert numbers("call 0161 496 0345") == ["0161 496 0345"]
    assert numbers("in 2019 we sold 12 of 345") == []


def _french_numbers(numbers: Callable[[str], list[str]]) -> None:
    assert numbers("Mon numéro est 01 99 00 47 11.") == ["01 99 00 47 11"]


def _mail_at_a_boundary(text: str) -> list[str]:
    return re.findall(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}\b", text)


def _plausible_mail(mail: Callable[[str], list[str]]) -> None:
    assert mail("Contact alice@example.com, please.") == ["alice@example.com"]
    assert mail("The operator @ multiplies.") == []


def _mail_between_ideographs(mail: Callable[[str], list[str]]) -> None:
    assert mail("联系alice@example.com或来电") == ["alice@example.com"]
    assert mail("문의는 alice@example.com으로") == ["alice@example.com"]


PRIVACY = [
    Exhibit(
        name="A country that the registry knows",
        threads=("data-privacy-stack/presidio#2078",),
        fault="Account numbers count only for the countries of a list that lacks some.",
        looks="All European numbers are found and wrong ones are not; one from Cairo stays in.",
        faulty=_accounts_of_listed_countries,
        sound=_found(find_ibans),
        plausible=_plausible_accounts,
        check=_accounts_of_all_countries,
    ),
    Exhibit(
        name="Cards that begin with 2",
        threads=("data-privacy-stack/presidio#2075",),
        fault="The pattern knows the networks' first prefixes and at most 17 digits.",
        looks="Every card in the tests is found; those that were issued since 2017 stay in.",
        faulty=_cards_of_the_first_networks,
        sound=_found(find_cards),
        plausible=_plausible_cards,
        check=_cards_of_later_networks,
    ),
    Exhibit(
        name="An address that ends in its middle",
        threads=("data-privacy-stack/presidio#1476", "data-privacy-stack/presidio#907"),
        fault="The first alternative that fits an IPv6 address with a gap ends at the gap.",
        looks="Something is found and replaced, and the rest of the address stays behind it.",
        faulty=_addresses_up_to_the_gap,
        sound=_found(find_ips),
        plausible=_plausible_machine_addresses,
        check=_addresses_behind_the_gap,
    ),
    Exhibit(
        name="A region that does not exist",
        threads=("data-privacy-stack/presidio#2008",),
        fault="The list of regions says FE for FR, and an unknown region finds nothing.",
        looks="Numbers of all other regions are found, and nothing complains of the name.",
        faulty=_numbers_of_listed_regions,
        sound=_found(find_phones),
        plausible=_plausible_numbers,
        check=_french_numbers,
    ),
    Exhibit(
        name="No boundary in Chinese",
        threads=("langchain-ai/langchain#38791", "langchain-ai/langchain#39998"),
        fault=r"`\b` asks for a change between letters and others, and ideographs are letters.",
        looks="Every English test passes; beside Chinese or Korean nothing is found.",
        faulty=_mail_at_a_boundary,
        sound=_found(find_emails),
        plausible=_plausible_mail,
        check=_mail_between_ideographs,
    ),
]

EXHIBITS = [*PRIVACY]
