"""The job details of processJob: the grammar, its quotes, and what is refused."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.simulator.details import WrongDetails, read, split

LEAST = "user=aberg,server=device,printer=c1"


def written(pairs: dict[str, str]) -> str:
    """Details as the grammar wants them."""
    fields = []
    for name, value in pairs.items():
        pair = f"{name}={value}".replace('"', '""')
        fields.append(f'"{pair}"' if "," in pair else pair)
    return ",".join(fields)


def test_a_pair_with_a_comma_is_quoted_whole_and_a_quote_is_doubled_everywhere() -> None:
    told = read('user=bob,server=device,"printer=Library, rear",document-name=the ""last"" one,"comment=a ""b"", c"')
    assert (told.printer, told.document, told.comment) == ("Library, rear", 'the "last" one', 'a "b", c')


def test_every_field_is_read() -> None:
    told = read(
        f"{LEAST},time=20261122T235959,cost=1.25,total-pages=12,total-color-pages=3,copies=2,document-name=x,duplex=TRUE,"
        "grayscale=FALSE,job-type=FAX,paper-size-name=A4,paper-width-mm=210,paper-height-mm=297.5,document-size-kb=4,"
        "invoice=i,comment=locum:1,client-machine=m,client-ip=10.0.0.1,shared-account=a\\b"
    )
    assert (told.time, told.cost, told.pages, told.color_pages) == ("20261122T235959", Decimal("1.25"), 12, 3)
    assert (told.copies, told.kind, told.comment) == (2, "fax", "locum:1")


def test_what_is_not_told_is_one_page_at_the_usual_cost() -> None:
    told = read(LEAST)
    assert (told.pages, told.copies, told.cost, told.kind, told.time) == (1, 1, None, "", "")


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ("", "is no pair"),
        ("user=a,server=device", "printer is missing"),
        ("user=,server=device,printer=c", "user is missing"),
        (f"{LEAST},", "is no pair"),
        (f"{LEAST},,copies=1", "is no pair"),
        (f"{LEAST},copies", "is no pair"),
        (f"{LEAST},colour=1", "no field colour"),
        (f"{LEAST},user=b", "twice"),
        (f"{LEAST},total-pages=-1", "total-pages"),
        (f"{LEAST},total-pages=ten", "total-pages"),
        (f"{LEAST},duplex=yes", "duplex"),
        (f"{LEAST},job-type=copy", "job-type"),
        (f"{LEAST},cost=1,50", "is no pair"),
        (f"{LEAST},time=2026-11-22", "time"),
        (f"{LEAST},time=20261131T101010", "time"),
        (f'{LEAST},comment=a "b" c', "double quote"),
        (f'{LEAST},"comment=a', "double quote"),
        (f'{LEAST},"comment=a"b', "double quote"),
    ],
)
def test_what_breaks_the_grammar_is_refused_in_words(details: str, words: str) -> None:
    with pytest.raises(WrongDetails, match=words):
        read(details)


@given(st.text(), st.text())
def test_whatever_a_text_holds_comes_back(document: str, comment: str) -> None:
    told = read(
        written({"user": "a", "server": "device", "printer": "p", "document-name": document, "comment": comment})
    )
    assert (told.document, told.comment) == (document, comment)


@given(st.text(alphabet='a=,"\n-') | st.text())
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        pairs = split(text)
    except WrongDetails:
        return
    assert text.count(",") >= len(pairs) - 1
