"""What is said about a cmdlet, a host verb or a parameter that does not exist."""

from __future__ import annotations

import pytest

import cmdlets
from kestrun_py import KestrunHost
from kestrun_py.counterparts.mistakes import missing_cmdlet, missing_host_verb, missing_parameter


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("add_kr_sesion", "There is no cmdlet add_kr_sesion. Did you mean add_kr_session?"),
        ("new_krserver", "new_krserver does not exist: New-KrServer is new_kr_server here."),
        ("AddKrEndpoint", "AddKrEndpoint does not exist: Add-KrEndpoint is add_kr_endpoint here."),
        ("add_kr_x", "There is no cmdlet add_kr_x."),
        ("add_kr_session", "add_kr_session is not imported: write `from cmdlets import add_kr_session`."),
        (
            "add_kr_sink_event_log",
            "add_kr_sink_event_log does not exist: Add-KrSinkEventLog has no counterpart (the event log is a part of "
            "Windows; use add_kr_sink_file).",
        ),
        (
            "send_kr_signalr_event",
            "send_kr_signalr_event does not exist: Send-KrSignalREvent is not ported yet; let the client ask a route "
            "again and again.",
        ),
    ],
)
def test_a_cmdlet(name: str, text: str) -> None:
    assert missing_cmdlet(name) == text


@pytest.mark.parametrize("name", ["count", "script_block", "no_default", "prnt"])
def test_a_name_that_looks_like_no_cmdlet(name: str) -> None:
    assert missing_cmdlet(name) is None


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("prot", "add_kr_endpoint has no parameter prot. Did you mean port?"),
        ("colour", "add_kr_endpoint has no parameter colour."),
        ("IPAddress", "add_kr_endpoint has no parameter IPAddress: -IPAddress is ip_address here."),
        (
            "pass_thru",
            "add_kr_endpoint has no parameter pass_thru: -PassThru has no counterpart (a definition always returns "
            "the host, or what -PassThru would return).",
        ),
    ],
)
def test_a_parameter(keyword: str, text: str) -> None:
    assert missing_parameter(cmdlets.add_kr_endpoint, keyword) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("add_sesion", "KestrunHost has no add_sesion. Did you mean add_session?"),
        ("add_kr_session", "KestrunHost has no add_kr_session: it is called add_session there."),
        ("write_json_response", "KestrunHost has no write_json_response: use the cmdlet write_kr_json_response."),
        (
            "add_razor_page_service",
            "KestrunHost.add_razor_page_service does not exist: Add-KrRazorPageService has no counterpart (Razor pages "
            "are C#; use write_kr_html_response).",
        ),
    ],
)
def test_a_verb_of_the_host(name: str, text: str) -> None:
    assert missing_host_verb(KestrunHost, name) == text
