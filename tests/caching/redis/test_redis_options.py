"""Configuration text, URLs and objects."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kestrun_py.caching.redis import RedisCache, RedisOptions
from kestrun_py.caching.redis._parsing import parse_options
from kestrun_py.errors import ArgumentError


def test_stackexchange_text() -> None:
    options = parse_options(
        "one:7000, two:7001 ,three,password=p=ss w/ord, USER=me,ssl=True,sslHost=name,defaultDatabase=3,"
        "connectTimeout=1500,syncTimeout=2500,abortConnect=false,name=web,serviceName=primary,"
    )
    assert options == RedisOptions(
        endpoints=[("one", 7000), ("two", 7001), ("three", 26379)],
        password="p=ss w/ord",
        user="me",
        ssl=True,
        ssl_host="name",
        default_database=3,
        connect_timeout=1500,
        sync_timeout=2500,
        abort_connect=False,
        name="web",
        service_name="primary",
    )


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("localhost", ("localhost", 6379)),
        ("localhost,ssl=true", ("localhost", 6380)),
        ("localhost:1,ssl=true", ("localhost", 1)),
        ("localhost,serviceName=x", ("localhost", 26379)),
        ("[::1]:7000", ("::1", 7000)),
        ("[::1]", ("::1", 6379)),
        ("::1", ("::1", 6379)),
        ("redis://", ("localhost", 6379)),
        ("redis://host", ("host", 6379)),
        ("rediss://host:6380/2", ("host", 6380)),
        ("redis://[::1]:7000", ("::1", 7000)),
    ],
)
def test_endpoint(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_options(text).endpoints == (endpoint,)


def test_url() -> None:
    options = parse_options("rediss://me:p%40ss%2C%3D@host:7000/3?client_name=web&socket_connect_timeout=1.5")
    assert (options.user, options.password, options.ssl) == ("me", "p@ss,=", True)
    assert (options.default_database, options.name, options.connect_timeout) == (3, "web", 1500)
    assert parse_options("redis://:secret@host").password == "secret"
    assert parse_options("redis://host?db=4").default_database == 4


def test_unix_socket() -> None:
    options = parse_options("unix://me:secret@/run/redis.sock?db=2")
    assert (options.unix_socket, options.default_database) == ("/run/redis.sock", 2)
    assert (options.user, options.password, options.endpoints) == ("me", "secret", ())
    assert options.where == "/run/redis.sock"
    assert parse_options("unix:///run/a%2Cb%3Dc.sock").unix_socket == "/run/a,b=c.sock"


@pytest.mark.parametrize(
    "part",
    [
        *("allowAdmin=true", "asyncTimeout=1", "channelPrefix=x", "configChannel=x", "configCheckSeconds=60"),
        *("connectRetry=3", "highIntegrity=true", "keepAlive=-1", "preserveAsyncOrder=true", "protocol=resp3"),
        *("resolveDns=true", "responseTimeout=1", "setlib=false", "tcpKeepAlive=true", "tiebreaker=x", "version=7.0"),
        *("writeBuffer=4096", "highPriorityThreads=x", "checkCertificateRevocation=false", "proxy=None"),
        *("heartbeatConsistencyChecks=true", "libName=x", "tunnel="),
    ],
)
def test_harmless_options_are_ignored(part: str) -> None:
    assert parse_options(f"localhost,{part}") == parse_options("localhost")


@pytest.mark.parametrize(("text", "name"), [("my  web app", "mywebapp"), ("größe", "gre"), ("", None), ("ü", None)])
def test_a_name_loses_what_redis_does_not_take(text: str, name: str | None) -> None:
    assert parse_options(f"localhost,name={text}").name == name


def test_tls_versions() -> None:
    assert parse_options("localhost,ssl=true,sslProtocols=Tls12|Tls13").ssl_min_version == "1.2"
    assert parse_options("localhost,ssl=true,sslProtocols=tls13").ssl_min_version == "1.3"


@pytest.mark.parametrize(
    ("configuration", "culprit"),
    [
        ("localhost,passwrd=secret", "passwrd"),
        ("localhost:6379,password=secret,foo=bar", "Part 3 of the Redis configuration"),
        ("localhost,$CLUSTER=", r"'\$CLUSTER'.*command maps are not supported"),
        ("localhost,$info=other", r"'\$info'.*command maps are not supported"),
        ("localhost,tunnel=http:proxy:8080", "'tunnel' is not supported"),
        ("localhost,heartbeatConsistencyChecks=maybe", "heartbeatConsistencyChecks"),
        ("localhost,proxy=Twemproxy", "proxy"),
        ("localhost,checkCertificateRevocation=true", "checkCertificateRevocation"),
        ("localhost,ssl=maybe", "ssl"),
        ("localhost,sslProtocols=ssl3", "sslProtocols"),
        ("localhost,connectRetry=abc", "connectRetry"),
        ("localhost,keepAlive=xyz", "keepAlive"),
        ("localhost,setlib=maybe", "setlib"),
        ("localhost,setClientLibrary=false", "setClientLibrary"),
        ("localhost,abortConnect=2", "abortConnect"),
        ("localhost,defaultDatabase=one", "defaultDatabase"),
        ("localhost,defaultDatabase=-1", "default_database"),
        ("localhost,connectTimeout=", "connectTimeout"),
        ("localhost,connectTimeout=0", "connect_timeout"),
        ("localhost,syncTimeout=1.5", "sync_timeout"),
        ("localhost:99999", "localhost"),
        ("localhost:redis", "port"),
        ("localhost:0", "port"),
        ("", "names no server"),
        ("ssl=true", "names no server"),
        ("redis://host/first", "database"),
        ("redis://host?passwrd=x", "passwrd"),
        ("redis://host?db=x", "default_database"),
        ("redis://host?socket_timeout=x", "socket_timeout"),
        ("redis://host?socket_timeout=-5", "socket_timeout"),
        ("redis://host?socket_timeout=nan", "socket_timeout"),
        ("redis://host?socket_connect_timeout=0", "socket_connect_timeout"),
        ("redis://host:0", "port"),
        ("redis://one,two", "leave out redis://"),
        ("redis://host,ssl=true", "leave out redis://"),
        ("redis://host;ssl=true", "one server"),
        ("redis://host?client_name=web,ssl=true", "one server"),
        ("unix:///a.sock,password=x", "leave out unix://"),
        ("unix://tmp/a.sock", "three slashes"),
        ("rediss://host?ssl_cert_reqs=never", "ssl_cert_reqs"),
        ("rediss://host?ssl_min_version=1.1", "ssl_min_version"),
        ("redis://host:port", "malformed"),
        ("http://host", "redis://"),
        ("unix:///a.sock?ssl=true", "ssl"),
        (None, "NoneType"),
        (7, "int"),
        ({"endpoints": ["localhost"], "passwrd": "secret"}, "passwrd"),
        (SimpleNamespace(endpoints="localhost", databse=1), "databse"),
        (SimpleNamespace(endpoints=7), "endpoints"),
        (SimpleNamespace(endpoints="localhost", name="my app"), "name"),
        (SimpleNamespace(endpoints="localhost", password=7), "password"),
        (SimpleNamespace(endpoints="localhost", default_database=True), "default_database"),
        (SimpleNamespace(endpoints=[("localhost", 1, 2)]), "endpoint"),
        (SimpleNamespace(endpoints="localhost", unix_socket="/a.sock"), "unix_socket"),
        (SimpleNamespace(endpoints="localhost,ssl=true"), "endpoint"),
    ],
)
def test_errors_name_the_culprit(configuration: object, culprit: str) -> None:
    with pytest.raises(ArgumentError, match=culprit):
        RedisCache(configuration)


@pytest.mark.parametrize(
    "configuration",
    [
        "localhost,password=hunter2,ssl=perhaps",
        "localhost,password=hunter,hunter2",
        "localhost,password=a,hunter2!=b",
        "redis://user:hunter2@host:port",
        "redis://user:a/hunter2@host",
        "redis://user:a#hunter2@host",
        "redis://user:a?hunter2=@host",
        "redis://user:[hunter2@host",
        "redis://user:hunter2@host?db=x",
        "redis://host,password=hunter2",
        "redis://host:6379,password=hunter2",
        "redis://host/0,password=hunter2",
        "redis://host?client_name=web,password=hunter2",
        "redis://host;password=hunter2",
        "unix:///run/redis.sock,password=hunter2",
        {"endpoints": "localhost,password=hunter2"},
        {"endpoints": [("localhost,password=hunter2", 6379)]},
        {"endpoints": "localhost", "password": "hunter2", "ssl": "perhaps"},
    ],
)
def test_errors_keep_the_password(configuration: object) -> None:
    with pytest.raises(ArgumentError) as caught:
        RedisCache(configuration)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error} {error!r}"
        error = None if error.__suppress_context__ else error.__context__


def test_password_is_not_shown() -> None:
    options = parse_options("localhost,user=me,password=hunter2")
    assert "hunter2" not in repr(options)
    assert "hunter2" not in options.where


@pytest.mark.parametrize("kind", [SimpleNamespace, dict, RedisOptions])
def test_object_with_the_same_attributes(kind: type) -> None:
    options = parse_options(
        kind(
            endpoints=["one:7000", ("two", 7001), "three"],
            password="a,b=c",
            user="me",
            ssl=True,
            ssl_host=None,
            default_database=2,
            connect_timeout=100,
            sync_timeout=200,
            abort_connect=False,
            name="web",
        )
    )
    assert options.endpoints == (("one", 7000), ("two", 7001), ("three", 6380))
    assert (options.password, options.default_database, options.connect_timeout) == ("a,b=c", 2, 100)


def test_endpoints_as_one_text() -> None:
    assert parse_options(SimpleNamespace(endpoints="one,two:7001")).endpoints == (("one", 6379), ("two", 7001))


def test_class_with_methods_and_properties() -> None:
    class Settings:
        endpoints = ("localhost",)

        @property
        def password(self) -> str:
            return "secret"

        def describe(self) -> str:
            return "described"

    assert parse_options(Settings()).password == "secret"


@given(st.text() | st.text(alphabet="abps:/=,@[]?&%#0. lrediuxxn").map(lambda text: f"redis://{text}"))
@example("redis://[")
@example("redis://a:b@[::1")
@example("redis://\u2100")
@example("redis://host?%zz=&=")
@example("redis://host:٣")
@example("a:²,defaultDatabase=²")
def test_text_raises_nothing_but_argument_errors(text: str) -> None:
    with suppress(ArgumentError):
        parse_options(text)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["password", "user", "ssl", "sslHost", "defaultDatabase", "connectTimeout", "name", "x"]),
            st.text(),
        )
    )
)
def test_options_raise_nothing_but_argument_errors(pairs: list[tuple[str, str]]) -> None:
    with suppress(ArgumentError):
        parse_options("localhost," + ",".join(f"{name}={value}" for name, value in pairs))


@given(
    st.dictionaries(
        st.sampled_from([*RedisOptions.__dataclass_fields__, "x"]),
        st.none()
        | st.text()
        | st.integers()
        | st.booleans()
        | st.lists(st.text() | st.tuples(st.text(), st.integers())),
    )
)
def test_attributes_raise_nothing_but_argument_errors(attributes: dict[str, object]) -> None:
    with suppress(ArgumentError):
        parse_options(attributes)


@pytest.mark.parametrize(
    "text",
    [
        "localhost,password=Xw7,Zq9=two",
        "localhost,password=Xw7,$Zq9=two",
        "localhost,password=Xw7,Zq9",
        "localhost,password=Xw7,Zq9:77777",
        "redis://user:Xw7?Zq9=two@localhost",
        "redis://user:Xw7#Zq9@localhost",
        "redis://user:Xw7/Zq9@localhost",
        "redis://localhost,password=Xw7?Zq9=two",
    ],
)
def test_no_piece_of_a_password_is_shown(text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_options(text)
    assert "Zq9" not in str(caught.value)
    assert "Xw7" not in str(caught.value)
