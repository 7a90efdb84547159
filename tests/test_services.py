"""The service registry."""

from __future__ import annotations

import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient
from recording_log import Log

from kestrun_py import DistributedCache, KestrunHost, MemoryCache
from kestrun_py.context import KestrunContext
from kestrun_py.errors import InvalidOperationError
from kestrun_py.logging import LogLevel
from kestrun_py.services import ServiceRegistry


class Mailer:
    pass


class SmtpMailer(Mailer):
    pass


def test_an_instance_is_found_by_the_type_it_was_added_for() -> None:
    services = ServiceRegistry()
    mailer = SmtpMailer()
    services.add(Mailer, mailer)
    assert services.get(Mailer) is services.require(Mailer) is mailer
    assert services.get(SmtpMailer) is None


def test_a_second_instance_is_refused_and_the_first_one_stays() -> None:
    services = ServiceRegistry()
    first = Mailer()
    services.add(Mailer, first)
    with pytest.raises(InvalidOperationError, match=r"^A Mailer is already registered\.$"):
        services.add(Mailer, SmtpMailer())
    assert services.get(Mailer) is first


def test_an_instance_may_take_the_place_of_another() -> None:
    services = ServiceRegistry()
    with pytest.raises(InvalidOperationError, match=r"^No service of type Mailer has been registered\.$"):
        services.replace(Mailer, SmtpMailer())
    services.add(Mailer, Mailer())
    second = SmtpMailer()
    services.replace(Mailer, second)
    assert services.get(Mailer) is second


def test_a_missing_service_is_named() -> None:
    with pytest.raises(InvalidOperationError, match=r"^No service of type Mailer has been registered\.$"):
        ServiceRegistry().require(Mailer)


def test_registrations_are_logged_at_debug() -> None:
    log = Log()
    ServiceRegistry(log.logger).add(Mailer, SmtpMailer())
    assert log.texts(LogLevel.DEBUG) == ["Service Mailer registered: SmtpMailer"]


async def test_a_route_and_a_middleware_find_the_hosts_services(aiohttp_client: AiohttpClient) -> None:
    host = KestrunHost("test").add_session()
    host.services.add(Mailer, SmtpMailer())
    seen: list[object] = []

    @web.middleware
    async def look(request: web.Request, handler: object) -> web.StreamResponse:
        seen.append(host.services.require(DistributedCache))
        return await handler(request)  # type: ignore[operator,no-any-return]

    def script(context: KestrunContext) -> None:
        services = context.services
        seen.extend([services.get(DistributedCache), services.get(Mailer), services.get(KestrunHost)])

    client = await aiohttp_client(host.use(look).add_map_route("/", "Get", script).create_app())
    assert (await client.get("/")).status == 200
    first, cache, mailer, found = seen
    assert isinstance(cache, MemoryCache)
    assert first is cache
    assert isinstance(mailer, SmtpMailer)
    assert found is host
