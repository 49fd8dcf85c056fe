"""Items of every country and form, beside any script and sign, and what only looks like them."""

import pytest

from llmlib.data.privacy import find_personal, luhn_valid
from llmlib.data.privacy.addresses import find_addresses
from llmlib.data.privacy.checked_numbers import find_cards, find_ibans, iban_valid
from llmlib.data.privacy.contacts import find_emails, find_ips
from llmlib.data.privacy.folding import fold
from llmlib.data.privacy.phones import find_phones
from llmlib.data.privacy.registries import calling_codes, iban_formats
from llmlib.data.privacy.spans import resolve_overlaps

# The example of each country in SWIFT's IBAN registry.
EXAMPLES = """
AD1200012030200359100100 AE070331234567890123456 AL47212110090000000235698741 AT611904300234573201
AZ21NABZ00000000137010001944 BA391290079401028494 BE68539007547034 BG80BNBG96611020345678
BH67BMAG00001299123456 BI4210000100010000332045181 BR1800360305000010009795493C1
BY13NBRB3600900000002Z00AB00 CH9300762011623852957 CR05015202001026284066
CY17002001280000001200527600 CZ6508000000192000145399 DE89370400440532013000
DJ2100010000000154000100186 DK5000400440116243 DO28BAGR00000001212453611324 EE382200221020145685
EG380019000500000000263180002 ES9121000418450200051332 FI2112345600000785 FK88SC123456789012
FO6264600001631634 FR1420041010050500013M02606 GB29NWBK60161331926819 GE29NB0000000101904917
GI75NWBK000000007099453 GL8964710001000206 GR1601101250000000012300695
GT82TRAJ01020000001210029690 HN88CABF00000000000250005469 HR1210010051863000160
HU42117730161111101800000000 IE29AIBK93115212345678 IL620108000000099999999
IQ98NBIQ850123456789012 IS140159260076545510730339 IT60X0542811101000000123456
JO94CBJO0010000000000131000302 KW81CBKU0000000000001234560101 KZ86125KZT5004100100
LB62099900000001001901229114 LC55HEMM000100010012001200023015 LI21088100002324013AA
LT121000011101001000 LU280019400644750000 LV80BANK0000435195001 LY83002048000020100120361
MC5811222000010123456789030 MD24AG000225100013104168 ME25505000012345678951 MK07250120000058984
MN121234123456789123 MR1300020001010000123456753 MT84MALT011000012345MTLCAST001S
MU17BOMM0101101030300200000MUR NI45BAPR00000013000003558124 NL91ABNA0417164300 NO9386011117947
OM810180000001299123456 PK36SCBL0000001123456702 PL61109010140000071219812874
PS92PALS000000000400123456702 PT50000201231234567890154 QA58DOHB00001234567890ABCDEFG
RO49AAAA1B31007593840000 RS35260005601001611379 RU0304452522540817810538091310419
SA0380000000608010167519 SC18SSCB11010000000000001497USD SD8811123456789012
SE4550000000058398257466 SI56263300012039086 SK3112000000198742637541 SM86U0322509800000000270100
SO211000001001000100141 ST23000100010051845310146 SV62CENR00000000000000700025
TL380080012345678910157 TN5910006035183598478831 TR330006100519786457841326
UA213223130000026007233566001 VA59001123000012345678 VG96VPVG0000012345678901 XK051212012345678906
YE15CBYE0001018861234567891234
"""
REGISTRY = EXAMPLES.split()

# Round an item: nothing, prose, scripts without spaces, particles, signs, Markdown, JSON, code.
AROUND = [
    "{}",
    "x {} y",
    "号码{}的",
    "番号は{}です",
    "번호는 {}로",
    "โทร{}ครับ",
    "№{}, и",
    "été {}é",
    "«{}»",
]
AROUND += [
    '{{"a": "{}"}}',
    "**{}**",
    "_{}_",
    "`{}`",
    "({})",
    "[{}]",
    "<{}>",
    "|{}|",
    "{}.",
    "{}!",
    "{}\n",
]


def texts_of(finder, text: str) -> list[str]:
    return [span.text for span in resolve_overlaps(finder(text))]


def fours(number: str) -> str:
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4))


def with_check(body: str) -> str:
    return next(body + digit for digit in "0123456789" if luhn_valid(body + digit))


def test_the_registry_has_every_country_once() -> None:
    assert sorted(iban_formats()) == [iban[:2] for iban in REGISTRY]
    assert {c: len_ for c, (len_, _) in iban_formats().items()} == {i[:2]: len(i) for i in REGISTRY}


@pytest.mark.parametrize("iban", REGISTRY, ids=lambda iban: iban[:2])
def test_accounts_of_every_country(iban: str) -> None:
    assert iban_valid(iban)
    for printed in (iban, fours(iban), fours(iban).replace(" ", "\u00a0"), iban.lower()):
        for around in AROUND:
            text = around.format(printed)
            assert texts_of(find_ibans, text) == [printed], text
        assert texts_of(find_ibans, f"AB12 {printed} AND SO ON") == [printed]
    wrong = iban[:2] + f"{(int(iban[2:4]) + 1) % 97:02}" + iban[4:]
    short, swapped = iban[:-1], iban[:-2] + iban[-1] + iban[-2]
    assert not texts_of(find_ibans, f"{wrong}, {short} or X{iban}, {iban}0")
    assert iban_valid(swapped) == (iban[-1] == iban[-2])


@pytest.mark.parametrize(
    ("iban", "fault"),
    [
        ("GB82123412345698765432", "digits where the bank's letters stand"),
        ("DE00370400440532013000", "check digits that are never given out"),
        ("XX82WEST12345698765432", "no country of the registry"),
    ],
)
def test_an_account_has_the_format_of_its_country(iban: str, fault: str) -> None:
    if iban[2:4] != "00":
        digits = "".join(str(int(letter, 36)) for letter in f"{iban[4:]}{iban[:2]}00")
        iban = f"{iban[:2]}{98 - int(digits) % 97:02}{iban[4:]}"  # so that only the fault is left
    assert not iban_valid(iban), fault


CARDS = ["4111111111111111", "5105105105105100", "2221000000000009", "2720990000000007"]
CARDS += ["378282246310005", "30569309025904", "6011000990139424", "3530111333300000"]
CARDS += ["6759649826438453", "6205500000000000004", "2200000000000004", "4222222222222"]
CARDS += [
    with_check("501800000000"[:11]),
    with_check("63040000000000000"),
    with_check("979200000000000"),
]


@pytest.mark.parametrize("card", CARDS)
def test_cards_of_every_network_and_length(card: str) -> None:
    grouped = f"{card[:4]} {card[4:10]} {card[10:]}" if len(card) in (14, 15) else fours(card)
    for printed in (card, grouped, grouped.replace(" ", "-"), grouped.replace(" ", "\u202f")):
        for around in AROUND:
            text = around.format(printed)
            assert texts_of(find_cards, text) == [printed], text
        code = next(c for c in ("123", "124") if not luhn_valid(card + c))
        for behind in (" 12/27", " 2027", f" {code} 4", "  09 28", ": 12", ", 4111"):
            assert texts_of(find_cards, printed + behind) == [printed], behind
        assert texts_of(find_cards, f"17 {printed}") == [printed]
    wrong = card[:-1] + str((int(card[-1]) + 1) % 10)
    for text in (
        wrong,
        f"x{card}",
        f"{card}7x",
        f"0.{card}",
        f"{card}.25",
        f"{card[:5]}.{card[5:]}",
    ):
        assert not texts_of(find_cards, text), text


def test_two_cards_in_a_row_and_columns_of_figures() -> None:
    assert texts_of(find_cards, "4111-1111-1111-1111-124") == ["4111-1111-1111-1111"]
    assert not texts_of(find_cards, "4111-1111-1111-1111-12345")
    assert len(texts_of(find_cards, "4111 1111 1111 1111 5555 5555 5555 4444")) == 2
    assert texts_of(find_cards, "４１１１　１１１１　１１１１　１１１１")
    assert not texts_of(find_cards, "4  600  700  800  900 and 1.134146 0.4879913")


@pytest.mark.parametrize("code", calling_codes())
def test_numbers_of_every_country_code(code: str) -> None:
    least, most = calling_codes()[code]
    for size in {least, most}:
        national = "2345678901234567"[:size]
        parts = [national[i : i + 3] for i in range(0, size - size % 3, 3)]
        parts[-1] += national[size - size % 3 :]
        for sign in " -.":
            printed = f"+{code}{sign}{sign.join(parts)}"
            for around in (
                "{}",
                "Ring {} now",
                "联系{}谢谢",
                "전화는 {}로",
                "**{}**",
                "({})",
                '"{}"',
            ):
                assert texts_of(find_phones, around.format(printed)) == [printed]
        if len(code) + size >= 9:
            assert texts_of(find_phones, f"a +{code}{national}, b") == [f"+{code}{national}"]
    too_long = f"+{code} " + "23456789012345678901"[: most + 1]
    assert too_long not in texts_of(find_phones, too_long)


def test_numbers_in_one_piece_beside_their_own_script() -> None:
    for number in ("13900005678", "01000001234", "09000001234"):
        assert (
            texts_of(find_phones, f"我是{number}号")
            == texts_of(find_phones, f"{number}번")
            == [number]
        )
        assert not texts_of(find_phones, f"row {number} of the table")
    assert texts_of(find_phones, "090ー0000ー1234まで") == ["090ー0000ー1234"]
    assert texts_of(find_phones, "03(0000)1122") == ["03(0000)1122"]
    assert texts_of(find_phones, "Tel.+33 1 99 00 47 11") == ["+33 1 99 00 47 11"]
    assert texts_of(find_phones, "phone 2025550147 2024") == ["2025550147"]
    assert texts_of(find_phones, "phone 202 555 0147 12:30") == ["202 555 0147"]
    assert texts_of(find_phones, "(+86) 139 0000 5678") == ["(+86) 139 0000 5678"]


@pytest.mark.parametrize("code", ["999", "210", "384", "0", "99"])
def test_what_is_no_country_code(code: str) -> None:
    assert not texts_of(find_phones, f"the value +{code} 234 567 890 was kept")


NATIONAL = [  # the printed forms of large countries
    ("France", "01 99 00 47 11"),
    ("France", "06.39.98.12.34"),
    ("France", "06-39-98-12-34"),
    ("Germany", "030 23125 471"),
    ("Germany", "0171 39200 23"),
    ("Germany", "(030) 23125-880"),
    ("Germany", "030/23125-123"),
    ("United Kingdom", "020 7946 0123"),
    ("United Kingdom", "07700 900461"),
    ("United Kingdom", "0161 496 0345"),
    ("Japan", "03-0000-1122"),
    ("Japan", "090-0000-1234"),
    ("Korea", "02-000-1234"),
    ("Korea", "010-0000-5678"),
    ("China", "010-55550188"),
    ("China", "139 0000 0123"),
    ("China", "400-000-1234"),
    ("India", "098765 00012"),
    ("India", "022 5550 0123"),
    ("Indonesia", "0812-0000-1234"),
    ("Pakistan", "0300-0001234"),
    ("Nigeria", "0803 000 1234"),
    ("Brazil", "(11) 95555-0142"),
    ("Brazil", "(21) 3555-0188"),
    ("Bangladesh", "01712-000123"),
    ("Russia", "8 (495) 000-12-34"),
    ("Mexico", "(55) 5000 0123"),
    ("Philippines", "0917 000 1234"),
    ("Ethiopia", "091 100 0123"),
    ("Egypt", "0100 000 1234"),
    ("Vietnam", "091 000 12 34"),
    ("Congo", "081 000 0123"),
    ("Iran", "0912 000 1234"),
    ("Turkey", "(0212) 000 12 34"),
    ("Turkey", "0532 000 12 34"),
    ("Thailand", "081-000-1234"),
    ("Tanzania", "0712 000 123"),
    ("South Africa", "082 000 1234"),
    ("Italy", "06 0000 1234"),
    ("Kenya", "0712 000123"),
    ("Spain", "612 34 56 78"),
    ("Argentina", "011 15-0000-1234"),
    ("Argentina", "011 4000-1234"),
    ("Algeria", "0551 00 12 34"),
    ("Ukraine", "067 000 12 34"),
    ("Australia", "(02) 5550 3117"),
    ("Australia", "0491 570 156"),
    ("Netherlands", "020-0001234"),
    ("Switzerland", "044 000 18 00"),
    ("Sweden", "070-000 12 34"),
    ("United States", "(202) 555-0147"),
    ("United States", "202.555.0147"),
]


@pytest.mark.parametrize(("country", "number"), NATIONAL)
def test_national_forms(country: str, number: str) -> None:
    for around in AROUND:
        assert texts_of(find_phones, around.format(number)) == [number], country
    for word in ("Tel. ", "phone: ", "電話:", "전화 ", "телефон ", "téléphone : ", "โทร "):
        assert texts_of(find_phones, word + number) == [number]
    assert texts_of(find_phones, f"{number} 2024, {number}") == [number, number]


@pytest.mark.parametrize(
    "text",
    [
        "ISBN 0-306-40615-2",
        "078-05-1120",
        "Lottery: 03 11 24 31 40 45 49",
        "07 14 21 28 35 42",
        "01-02-2024 and 01.02.2024 10:45",
        "2019-05-18 15:17:08.132263123",
        "00 255 247 00 00 71",
        "rows 0001 0002 0003 0004",
        "0123 4567 8901",
        "0.125 0.250 0.375",
        "the sum 612 345 678",
        "1700000000123 ms",
        "10.1016/B978-0-08-009306-2.50005-4",
        "An offset of +12345678 bytes",
        "0.5 + 14285714.286",
        "call us 24 7 365",
        "Reach us 24/7/365",
        "call me in 2024-2025",
    ],
)
def test_digits_that_call_nobody(text: str) -> None:
    assert not texts_of(find_phones, text)


EMAILS = [
    "ada@example.org",
    "ada.l+tag@sub.example.co.uk",
    "o'hara@example.ie",
    "a-b_c%d@x-y.example",
]
EMAILS += ["juan@correo.com.py", "ali@dhaqan.gov.so", "x@a.b.c.d.e.f.example.org", "q@163.com"]
EMAILS += [
    "jürgen@müller.example",
    "почта@пример.рф",
    "u@xn--bcher-kva.example",
    "ada@xn--p1ai.xn--p1ai",
]
EMAILS += [
    "root@[192.0.2.1]",
    "root@[IPv6:2001:db8::1]",
    '"john doe"@example.org',
    "ada.@example.ne.jp",
]


@pytest.mark.parametrize("email", EMAILS)
def test_forms_of_mail_addresses(email: str) -> None:
    for around in AROUND:
        if email.isascii() or around != "été {}é":  # a letter that may belong to it
            assert texts_of(find_emails, around.format(email)) == [email], around
    assert texts_of(find_emails, f"mailto:{email}?subject=x, <{email}>") == [email, email]


@pytest.mark.parametrize(
    "text",
    [
        "icon@2x.png",
        "hero@1.5x.jpeg",
        "main@v2.py",
        "tests@unit.py",
        "libfoo@1.2.so",
        "a@b",
        "@user.name",
    ]
    + ["react@18.2.0-rc.next", "loss@self.weight", "pkg@git+https://x", "@", "a@.org", "x@y.T"],
)
def test_an_at_sign_is_no_mail_address(text: str) -> None:
    assert not texts_of(find_emails, f"see {text} there")


def test_mail_addresses_in_other_scripts_and_disguises() -> None:
    assert texts_of(find_emails, "用户@例子.中国发信") == ["用户@例子.中国"]
    assert texts_of(find_emails, "ada＠example．org") == ["ada＠example．org"]
    for written in (
        "ada [at] example [dot] org",
        "ada(at)example(dot)org",
        "ada AT example DOT org",
    ):
        assert texts_of(find_emails, f"To {written}, please") == [written]
    assert not texts_of(find_emails, "We met at example street, AT noon")


@pytest.mark.parametrize(
    "email",
    ["tanaka@日本語.jp", "用户@例子.com", "info@公司.cn", "john.doe@公司.com.cn", "abc@例え.jp"]
    + ["ada@mail.公司.cn", "kim@회사.kr", "ada@abc公司.com", "ada@日本語.JP"],
)
def test_mail_addresses_with_a_label_of_another_script(email: str) -> None:
    for around in (
        "{}",
        "<{}>",
        "{}.",
        "{}。",
        "{}です",
        "{}로",
        "见 {}、a.cn",
        "({})",
        "{}发信x.cn",
    ):
        assert texts_of(find_emails, around.format(email)) == [email], around


@pytest.mark.parametrize(
    "text",
    ["图@截图.png", "ada@截图.png", "转发@用户.py", "回复@张三.OK", "见@张三.comment", "@公司.cn"],
)
def test_a_mention_in_another_script_is_no_mail_address(text: str) -> None:
    assert not texts_of(find_emails, text)


IPS = [
    "2001:db8::1",
    "2001:DB8::",
    "2001:db8:1:2:3:4:5:6",
    "2001:db8::192.0.2.33",
    "::ffff:198.51.100.4",
]
IPS += [
    "64:ff9b::192.0.2.33",
    "2001:0db8:0000:0000:0000:0000:0000:0001",
    "192.0.2.7",
    "203.0.113.255",
]


@pytest.mark.parametrize("address", IPS)
def test_forms_of_machine_addresses(address: str) -> None:
    found = [span.text for span in find_personal(address, ["ipv4", "ipv6"])]
    assert found == [address]  # an IPv4 address inside belongs to the whole
    for around in AROUND:
        text = around.format(address)
        assert [s.text for s in find_personal(text, ["ipv4", "ipv6"])] == [address], text
    for behind in ("/64", "%eth0", ": refused", ", ", ".", "]:443"):
        assert [s.text for s in find_personal(address + behind, ["ipv4", "ipv6"])] == [address], (
            behind
        )
    for before in ("ip=", "client:", "IPv6:", "http://[", "peer "):
        assert [s.text for s in find_personal(before + address, ["ipv4", "ipv6"])] == [address], (
            before
        )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("地址:2001:db8::1", "2001:db8::1"),
        ("IPv6地址：240e:3a1:4c23:1::1。", "240e:3a1:4c23:1::1"),
        ("IP:2001:db8::1", "2001:db8::1"),
        ("서버: 2001:db8::1로", "2001:db8::1"),
        ("サーバー[2001:db8::1]", "2001:db8::1"),
        ("服务器[2001:db8::1]:80", "2001:db8::1"),
        ("アドレスは[2a00:1450:4009:80b::200e]:443です", "2a00:1450:4009:80b::200e"),
        ("地址2001:db8::1（北京）", "2001:db8::1"),
        ("OpenSSL at 192.0.2.1", "192.0.2.1"),
    ],
)
def test_machine_addresses_behind_labels(text: str, address: str) -> None:
    assert [s.text for s in find_personal(text, ["ipv4", "ipv6"])] == [address]


def test_ends_of_a_range_are_two_addresses() -> None:
    assert texts_of(find_ips, "192.0.2.1-192.0.2.20") == ["192.0.2.1", "192.0.2.20"]
    assert texts_of(find_ips, "10.0.0.1-10.0.0.20") == []


@pytest.mark.parametrize(
    "text",
    ["12:30:45", "2024:05:01 10:20:30", "00:1b:44:11:3a:b7", "00:1b:44:ff:fe:11:3a:b7", "std::dec"]
    + [
        "ns::beef::cafe",
        "rows[2000::2]",
        "2001::25de::cade",
        "fe80::1%eth0",
        "::1",
        "::",
        "fd00::1",
    ]
    + [
        "::ffff:10.0.0.1",
        "2001:db8::12345",
        "1:2001:db8::1",
        "版本 1.2.3.4",
        '__version__ = "3.5.0.1"',
    ]
    + ["行1:2001:db8::1", "类::2001:db8::1", "f(x)[2000::2]", "列a[2000::2]", "2abc::def()"]
    + ["OpenSSL 3.0.2.1", "Chrome/41.0.228.0 Safari", "firmware 1.2.3.4"]
    + ["192.0.2.256", "192.0.2.1.5", "v1.2.3.4", "127.0.0.1"],
)
def test_what_is_the_address_of_no_one(text: str) -> None:
    assert not texts_of(find_ips, f"see {text} there")


@pytest.mark.parametrize(
    "address",
    [
        "48 Rowan Street, Millbrook, OR 97031",
        "1200 North Harbor Drive, Suite 410, Port Ellis, CA 92101",
        "7 Chapel Lane, Thornby, NR14 2QX",
        "221 Elmwood Avenue",
        "15 Rideau Court, Ottawa, ON K1A 0B1",
        "12 Acland Street, Fitzroy VIC 3065",
        "P.O. Box 1184, Carmel, IN 46082",
        "Lindenstraße 14, 04109 Leipzig",
        "Am Alten Markt 3a, 50667 Köln",
        "27 rue des Tilleuls, 69003 Lyon",
        "Calle del Olmo 9, 28012 Madrid",
        "Carrera 7 # 12-34",
        "Via Garibaldi 22, 20121 Milano",
        "Prinsenstraat 31, 3512 AB Utrecht",
        "Storgatan 12, 111 22 Stockholm",
        "Rua das Flores, 120",
        "ul. Lipowa 8, 90-743 Łódź",
        "ул. Садовая, д. 17",
        "Lale Sokak No: 5",
        "上海市浦东新区世纪大道100号",
        "東京都港区芝公園4-2-8",
        "서울특별시 종로구 세종대로 209",
    ],
)
def test_postal_addresses(address: str) -> None:
    for around in ("{}", "x: {}.", "({})", '"{}"', "**{}**", "{}\n", "{}, x"):
        assert texts_of(find_addresses, around.format(address)) == [address], around


@pytest.mark.parametrize(
    "text",
    [
        "In 2019 Wall Street fell for 12 days.",
        "Chapter 12 Main Street explains it.",
        "He walked 5 miles along Abbey Road.",
        "The 3 Court decisions of May differ.",
        "12 Place the lid on the pot.",
        "Er belegte Platz 3 im Rennen.",
        "Via email, 22 people replied.",
        "Der Herring 3 und Spring 12",
        "第3号楼は駅の前",
        "Am Montag 3 Uhr",
        "On 5 May Street food is sold.",
    ],
)
def test_a_number_beside_a_street_is_no_address(text: str) -> None:
    assert not texts_of(find_addresses, text)


def test_folding_keeps_every_place() -> None:
    text = "＋４９\u3000３０‑１２\u2009٣٤—ー〜é"
    assert fold(text) == "+49 30-12 34—ー〜é"
    assert len(fold("".join(map(chr, range(0x10000))))) == 0x10000


@pytest.mark.parametrize(
    "word", ["密码:", "パスワードは", "비밀번호: ", "Passwort: ", "contraseña: ", "пароль: "]
)
def test_passwords_are_named_in_many_languages(word: str) -> None:
    assert [s.text for s in find_personal(f"{word}tr0ub4dor-and3。", ["key"])] == ["tr0ub4dor-and3"]


def test_names_beside_scripts_without_spaces() -> None:
    assert [s.text for s in find_personal("作者Maria Silva写的", ["name"])] == ["Maria Silva"]
