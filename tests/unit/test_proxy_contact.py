"""When contact has failed and when it is steady: the rule of offline-mode.md, in times alone."""

from __future__ import annotations

import pytest

from proxy.contact import STEADY_OVER, Contact, Steadiness


@pytest.fixture
def contact() -> Contact:
    return Contact(3.0)


def test_a_request_and_its_half_time_probe_unanswered_is_a_failure(contact: Contact) -> None:
    contact.sent(10.0)
    assert not contact.wants_probe(11.4)
    assert contact.wants_probe(11.5)
    contact.probed(11.5)
    assert not contact.wants_probe(12.0)
    assert not contact.has_failed(12.9)
    assert contact.has_failed(13.0)


def test_a_failure_is_told_once(contact: Contact) -> None:
    contact.sent(10.0)
    contact.probed(11.5)
    assert contact.has_failed(13.0)
    assert not contact.has_failed(13.1)


def test_the_first_sending_counts_not_the_later_ones(contact: Contact) -> None:
    contact.sent(10.0)
    contact.sent(12.0)
    contact.probed(12.0)
    assert contact.has_failed(13.5)


def test_what_was_heard_lets_every_earlier_request_off(contact: Contact) -> None:
    contact.sent(10.0)
    contact.probed(11.5)
    contact.heard(12.9)
    assert not contact.has_failed(20.0)


def test_one_request_that_is_discarded_is_asked_after_but_brings_nothing_down(contact: Contact) -> None:
    contact.sent(10.0)
    contact.heard(10.5)
    assert contact.wants_probe(11.5, oldest=10.0)
    contact.probed(11.5)
    contact.heard(11.6)
    assert not contact.wants_probe(20.0, oldest=10.0)
    assert not contact.has_failed(20.0)


def test_a_probe_must_have_had_half_the_time_too(contact: Contact) -> None:
    contact.sent(10.0)
    contact.probed(3600.0)
    assert not contact.has_failed(3600.0)
    assert not contact.has_failed(3601.4)
    assert contact.has_failed(3601.5)


def test_a_probe_alone_fails_like_a_request(contact: Contact) -> None:
    contact.probed(10.0)
    assert contact.wants_probe(11.5)
    contact.probed(11.5)
    assert contact.has_failed(13.0)


def test_a_refusal_asks_for_a_probe_and_the_probes_refusal_is_the_failure(contact: Contact) -> None:
    assert contact.refused(probe=False) == "probe"
    assert contact.refused(probe=False) == ""
    assert contact.refused(probe=True) == "failed"
    assert contact.refused(probe=False) == "probe"


def test_an_answer_between_two_refusals_begins_anew(contact: Contact) -> None:
    assert contact.refused(probe=False) == "probe"
    contact.heard(1.0)
    assert contact.refused(probe=True) == "probe"


def test_steady_is_so_many_in_a_row_over_two_seconds() -> None:
    steadiness = Steadiness(3)
    assert not steadiness.contact(10.0)
    assert steadiness.succeeding
    assert not steadiness.contact(10.5)
    assert not steadiness.contact(11.0)
    assert not steadiness.contact(10.0 + STEADY_OVER - 0.1)
    assert steadiness.contact(10.0 + STEADY_OVER)


def test_two_contacts_are_not_steady_however_far_apart() -> None:
    steadiness = Steadiness(3)
    steadiness.contact(10.0)
    assert not steadiness.contact(20.0)
    assert steadiness.contact(30.0)


def test_a_probe_unanswered_breaks_the_row_only_if_nothing_was_heard_since() -> None:
    steadiness = Steadiness(3)
    steadiness.contact(10.0)
    steadiness.broken(sent=9.0)
    assert steadiness.succeeding
    steadiness.broken(sent=10.5)
    assert not steadiness.succeeding
    steadiness.contact(11.0)
    assert not steadiness.contact(12.5)


def test_a_failure_breaks_the_row() -> None:
    steadiness = Steadiness(1)
    steadiness.contact(10.0)
    steadiness.contact(13.0)
    assert steadiness.steady
    steadiness.broken()
    assert not steadiness.steady
