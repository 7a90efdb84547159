"""Connection strings: ADO.NET's, Npgsql's, URLs and ODBC's."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kestrun_py.caching.sql import PostgresDialect, SqlDialect, SqlServerDialect, dialect_of
from kestrun_py.caching.sql.connection_string import (
    is_odbc_string,
    odbc_string,
    parse_ado_string,
    parse_odbc_string,
)
from kestrun_py.caching.sql.drivers import Driver
from kestrun_py.errors import ArgumentError

DRIVER = "ODBC Driver 18 for SQL Server"


@pytest.fixture(autouse=True)
def _drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kestrun_py.caching.sql.sqlserver.find_sqlserver_driver", lambda: Driver(DRIVER))
    monkeypatch.setattr(
        "kestrun_py.caching.sql.postgres_settings.find_postgres_driver", lambda: Driver("PostgreSQL Unicode")
    )


@pytest.fixture
def _free_tds(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver("FreeTDS", free_tds=True)
    monkeypatch.setattr("kestrun_py.caching.sql.sqlserver.find_sqlserver_driver", lambda: driver)


def options(text: str, dialect: SqlDialect | None = None) -> dict[str, str]:
    """The ODBC options that a connection string becomes, keys in lower case."""
    return dict(parse_odbc_string((dialect or SqlServerDialect()).settings(text).odbc))


# The grammar


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        (" ; ;", []),
        ("a=1", [("a", "1")]),
        ("a=1;", [("a", "1")]),
        (" A b  C = 1 2 ; d=3", [("a b c", "1 2"), ("d", "3")]),
        ("a=;b= ;c=3", [("a", ""), ("b", ""), ("c", "3")]),
        ("a='1;2'", [("a", "1;2")]),
        ('a="1;2" ;b=3', [("a", "1;2"), ("b", "3")]),
        ("a='it''s'", [("a", "it's")]),
        ('a="say ""hi"""', [("a", 'say "hi"')]),
        ('a="it\'s"', [("a", "it's")]),
        ("a=it's", [("a", "it's")]),
        ("a=b=c", [("a", "b=c")]),
        ("a==b=c", [("a=b", "c")]),
        ("a=' '", [("a", " ")]),
        ("a={x;b=1", [("a", "{x"), ("b", "1")]),
    ],
)
def test_ado_strings_are_split(text: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_ado_string(text) == pairs


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Server=x;secret", "Part 2 of the connection string has no '='"),
        ("=secret", "Part 1 of the connection string has no name"),
        ("Password='secret", "The value of part 1 of the connection string has no closing '"),
        ("Password='secret'secret", "The value of part 1 of the connection string goes on after its closing quote"),
        ("Server=x;Password=se;cret", "Part 3"),
    ],
)
def test_malformed_strings_are_told_without_their_values(text: str, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem) as caught:
        SqlServerDialect().settings(text)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("Driver={A B};PWD={x;}}y};UID=z", [("driver", "A B"), ("pwd", "x;}y"), ("uid", "z")]),
        ("DSN=a;;PWD= {b} ;", [("dsn", "a"), ("pwd", "b")]),
        ("Driver={open", [("driver", "open")]),
        ("nothing", []),
    ],
)
def test_odbc_strings_are_split(text: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_odbc_string(text) == pairs


@given(st.lists(st.tuples(st.sampled_from(["PWD", "UID", "X"]), st.text())))
def test_what_is_joined_for_odbc_is_split_again(pairs: list[tuple[str, str]]) -> None:
    assert parse_odbc_string(odbc_string(pairs)) == [(key.lower(), value) for key, value in pairs]


@given(st.dictionaries(st.from_regex(r"[a-z]([a-z ]?[a-z]){0,5}", fullmatch=True), st.text(min_size=1), max_size=4))
def test_any_quoted_value_is_understood(values: dict[str, str]) -> None:
    text = ";".join('{}="{}"'.format(key, value.replace('"', '""')) for key, value in values.items())
    assert parse_ado_string(text) == list(values.items())


FRAGMENTS = st.sampled_from(
    ["Server", "=", ";", "'", '"', "{", "}", "tcp:", ",", "\\", "host", "Password", "1433", "Driver", " ", "\0", "==",
     "Encrypt", "postgresql://", "@", ":", "/", "?", "[", "]", "%", "true", "Port", "Max Pool Size", "99999999999"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(FRAGMENTS, max_size=15).map("".join)), st.sampled_from([0, 1]))
@example("postgresql://[", 1)
@example("postgresql://a:b@c:d/e", 1)
@example("Server=a;Connect Timeout=²", 0)
def test_nothing_but_an_argument_error_comes_of_any_text(text: str, which: int) -> None:
    dialect: SqlDialect = (SqlServerDialect(), PostgresDialect())[which]
    try:
        settings = dialect.settings(text)
    except ArgumentError:
        return
    assert settings.odbc


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_password_reaches_the_driver_and_never_shows(password: str) -> None:
    quoted = password.replace('"', '""')
    for dialect, start in ((SqlServerDialect(), "Server=s;User Id=u;"), (PostgresDialect(), "Host=s;")):
        settings = dialect.settings(f'{start}Password="{quoted}"')
        assert dict(parse_odbc_string(settings.odbc))["pwd"] == password
        assert settings.without_secrets(f"PWD={password};").count("***") >= 1
        assert repr(settings) == "ConnectionSettings(address='s')"


SECRET = "Xq7vZ2kW"

MALFORMED = [
    f"host=h user=u password={SECRET} dbname=d colour=red",
    f"Host=h User Name=u Password={SECRET}",
    f"Host=h;Database=d Password={SECRET};Username=u",
    f"Host=h;Username=u Password={SECRET}",
    f"Server=h Password={SECRET};User Id=u",
    f"Server=h;Database=d;User Id=u Password={SECRET}",
    f"Server=h;User Id=u;Password=ab;{SECRET}=ef",
    f"Server=h;User Id=u;Password=ab;{SECRET}",
    f"Server=h;User Id=u;Password=ab;{SECRET}='x",
    f"Server=h;User Id=u;Password='ab';{SECRET}='x'y",
    f"Server=h;User Id=u;Password='ab'{SECRET}",
    f"Server=h;User Id=u;Password=ab={SECRET};=x",
    f"mssql+pyodbc://u:{SECRET}@h/d?driver=ODBC+Driver+18",
    f"jdbc:sqlserver://h:1433;user=u;password={SECRET};colour=red",
    f"jdbc:postgresql://h/d?user=u&password={SECRET}",
    f"mysql://u:{SECRET}@h/d",
    f"postgresql://u:12#{SECRET}@h/d",
    f"postgresql://u:12/{SECRET}@h/d",
    f"postgresql://u:12?{SECRET}@h/d",
    f"postgresql://u:{SECRET}@h:port/d",
    f"postgresql://u@h/d?{SECRET}",
    f"postgresql://u@h/d?{SECRET}=x",
    f"postgresql+psycopg2://u:{SECRET}@h:1:2/d",
    f"Driver=x;Server=h PWD={SECRET}",
    f"DSN=d PWD={SECRET}",
]

MALFORMED_VALUES = [
    (SqlServerDialect, f"Server=h;User Id=u;Encrypt={SECRET}"),
    (SqlServerDialect, f"Server=h;User Id=u;TrustServerCertificate={SECRET}"),
    (SqlServerDialect, f"Server=h;User Id=u;Authentication={SECRET}"),
    (SqlServerDialect, f"Server=h;User Id=u;Connect Timeout={SECRET}"),
    (SqlServerDialect, f"Server=np:{SECRET};User Id=u"),
    (SqlServerDialect, f"Server=h:{SECRET};User Id=u"),
    (SqlServerDialect, f"Server=h,{SECRET};User Id=u"),
    (PostgresDialect, f"Host=h;SSL Mode={SECRET}"),
    (PostgresDialect, f"Host=h;Port={SECRET}"),
    (PostgresDialect, f"Host=h:{SECRET}"),
]


def assert_is_refused_in_secrecy(dialect: SqlDialect, text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        dialect.settings(text)
    assert SECRET.lower() not in str(caught.value).lower()
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("dialect", [SqlServerDialect(), PostgresDialect()])
@pytest.mark.parametrize("text", MALFORMED)
def test_no_message_holds_a_piece_of_what_was_not_understood(text: str, dialect: SqlDialect) -> None:
    assert_is_refused_in_secrecy(dialect, text)


@pytest.mark.parametrize(("dialect", "text"), MALFORMED_VALUES)
def test_no_message_holds_a_value_that_was_not_understood(dialect: type[SqlDialect], text: str) -> None:
    assert_is_refused_in_secrecy(dialect(), text)


def test_a_similar_keyword_is_suggested() -> None:
    with pytest.raises(ArgumentError, match=r"Part 2 .* not supported \(did you mean 'password'\?\)"):
        PostgresDialect().settings("Host=h;Pasword=x")


def test_a_url_for_sql_server_says_what_to_write() -> None:
    with pytest.raises(ArgumentError, match="write 'Server=host,port;Database="):
        SqlServerDialect().settings("mssql+pyodbc://u:p@h/d")


@pytest.mark.parametrize("password", ["p", "o", "po", "'", "=", " ", "999"])
def test_a_short_password_is_masked_where_it_is_a_value(password: str) -> None:
    quoted = password.replace('"', '""')
    settings = PostgresDialect().settings(f'Host=h;Password="{quoted}"')
    message = 'connection to server at "127.0.0.1", port 5999 failed: Connection refused'
    assert settings.without_secrets(message) == message
    assert settings.without_secrets(f"PWD={password};UID=u") == "PWD=***;UID=u"
    assert settings.without_secrets(f'"{password}"') == '"***"'


# SQL Server


def test_a_usual_string_becomes_an_odbc_string() -> None:
    settings = SqlServerDialect().settings(
        "Server=tcp:db.example.com,1444;Initial Catalog=My Data;User ID=sa;Password=p;w;Encrypt=True".replace(
            "p;w", '"p;w"'
        )
        + ";TrustServerCertificate=True;Connect Timeout=7;Application Name=kestrun"
    )
    assert settings.odbc == (
        "Driver={ODBC Driver 18 for SQL Server};Database={My Data};UID=sa;PWD={p;w};APP=kestrun;"
        "Server=db.example.com,1444;Encrypt=yes;TrustServerCertificate=yes"
    )
    assert settings.login_timeout == 7
    assert settings.address == "db.example.com,1444, database My Data"


@pytest.mark.parametrize(
    "key", ["Server", "Data Source", "Address", "Addr", "Network Address", "SERVER", "data  source"]
)
@pytest.mark.parametrize(
    ("value", "server"),
    [
        ("host", "host"),
        ("host,1433", "host,1433"),
        ("tcp:host,1433", "host,1433"),
        ("TCP: host , 1433", "host,1433"),
        (".", "localhost"),
        ("(local)", "localhost"),
        ("localhost", "localhost"),
        (".\\SQLEXPRESS", "localhost\\SQLEXPRESS"),
        ("(LOCAL)\\X,1433", "localhost\\X,1433"),
        ("host\\instance", "host\\instance"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1,1433", "::1,1433"),
    ],
)
def test_every_form_of_a_server(key: str, value: str, server: str) -> None:
    assert options(f"{key}={value};User Id=u")["server"] == server


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("np:\\\\host\\pipe\\sql", "not reached by TCP"),
        ("lpc:host", "not reached by TCP"),
        ("(localdb)\\MSSQLLocalDB", "not a host"),
        ("host,", "port"),
        ("host,0", "port"),
        ("host,65536", "port"),
        ("host,port", "port"),
        ("host:1433", "after a comma"),
        (",1433", "not a host"),
        ("tcp:", "not a host"),
    ],
)
def test_servers_that_cannot_be(value: str, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        SqlServerDialect().settings(f"Server={value};User Id=u")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("Database=d", "database", "d"),
        ("Initial Catalog=d", "database", "d"),
        ("UID=w", "uid", "w"),
        ("User=w", "uid", "w"),
        ("PWD=p", "pwd", "p"),
        ("Integrated Security=SSPI", "trusted_connection", "yes"),
        ("Trusted_Connection=yes", "trusted_connection", "yes"),
        ("Integrated Security=false", "trusted_connection", None),
        ("", "encrypt", "yes"),
        ("TrustServerCertificate=True", "encrypt", "yes"),
        ("Encrypt=false", "encrypt", "no"),
        ("Encrypt=Optional", "encrypt", "no"),
        ("Encrypt=Mandatory", "encrypt", "yes"),
        ("Encrypt=Strict", "encrypt", "strict"),
        ("Trust Server Certificate=yes", "trustservercertificate", "yes"),
        ("TrustServerCertificate=False", "trustservercertificate", None),
        ("HostNameInCertificate=x.y", "hostnameincertificate", "x.y"),
        ("MultiSubnetFailover=True", "multisubnetfailover", "yes"),
        ("ApplicationIntent=ReadOnly", "applicationintent", "ReadOnly"),
        ("Failover Partner=other", "failover_partner", "other"),
        ("Workstation ID=ws", "wsid", "ws"),
        ("Current Language=Deutsch", "language", "Deutsch"),
        ("Authentication=Active Directory Password", "authentication", "ActiveDirectoryPassword"),
        ("Authentication=ActiveDirectoryManagedIdentity", "authentication", "ActiveDirectoryMsi"),
        ("ConnectRetryCount=2", "connectretrycount", "2"),
        ("MultipleActiveResultSets=True", "multipleactiveresultsets", None),
        ("Persist Security Info=False;Packet Size=8192;Enlist=False", "packet size", None),
        ("Database=a;Database=b", "database", "b"),
    ],
)
def test_keywords_of_sqlclient(text: str, key: str, value: str | None) -> None:
    assert options(f"Server=s;User Id=u;{text}").get(key) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("User Id=u", "names no server"),
        ("Server=s", "nothing about the login"),
        ("Server=s;Integrated Security=no", "nothing about the login"),
        ("Server=s;User Id=u;Colour=red", "Part 3 of the connection string has a keyword that is not supported"),
        ("Server=s;User Id=u;Encrypt=maybe", "'encrypt' must be True, False"),
        ("Server=s;User Id=u;TrustServerCertificate=1", "'trust server certificate' must be true or false"),
        ("Server=s;User Id=u;Connect Timeout=soon", "'connect timeout' must be a whole number"),
        ("Server=s;User Id=u;Max Pool Size=0", "'max pool size' must be a whole number from 1"),
        ("Server=s;User Id=u;Min Pool Size=5;Max Pool Size=4", "'min pool size' .5. exceeds"),
        ("Server=s;Authentication=Active Directory Default", "'authentication' is not supported by the ODBC driver"),
        ("Server=s;User Id=u;Password=a\0b", "NUL"),
    ],
)
def test_what_is_not_understood_is_named(text: str, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem):
        SqlServerDialect().settings(text)


def test_the_pool_follows_the_connection_string() -> None:
    settings = SqlServerDialect().settings(
        "Server=s;UID=u;Max Pool Size=7;Min Pool Size=2;Pooling=no;Command Timeout=5"
    )
    assert (settings.max_size, settings.min_size, settings.pooling, settings.command_timeout) == (7, 2, False, 5)
    settings = SqlServerDialect().settings("Server=s;UID=u;Connect Timeout=0")
    assert (settings.max_size, settings.min_size, settings.pooling, settings.command_timeout) == (10, 0, True, 30)
    assert settings.login_timeout == 15


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("", (0, 10)),
        ("Min Pool Size=5", (5, 10)),
        ("Min Pool Size=20", (20, 20)),
        ("Max Pool Size=2000", (0, 2000)),
        ("Max Pool Size=3", (0, 3)),
        ("Min Pool Size=100;Max Pool Size=2000", (100, 2000)),
    ],
)
def test_sizes_of_the_pool(text: str, sizes: tuple[int, int]) -> None:
    for dialect, start in ((SqlServerDialect(), "Server=s;User Id=u;"), (PostgresDialect(), "Host=s;")):
        settings = dialect.settings(start + text)
        assert (settings.min_size, settings.max_size) == sizes


@pytest.mark.usefixtures("_free_tds")
def test_freetds_has_keywords_of_its_own() -> None:
    found = options("Server=tcp:host,1444;Database=d;User Id=u;Password=p;Encrypt=True;TrustServerCertificate=True")
    assert found == {
        "driver": "FreeTDS",
        "server": "host",
        "port": "1444",
        "database": "d",
        "uid": "u",
        "pwd": "p",
        "tds_version": "7.4",
        "clientcharset": "UTF-8",
        "encryption": "require",
    }
    assert options("Server=host;User Id=u;Encrypt=False")["port"] == "1433"
    assert "port" not in options("Server=host\\instance;User Id=u;Encrypt=False")


@pytest.mark.usefixtures("_free_tds")
@pytest.mark.parametrize(
    "text", ["Authentication=SqlPassword", "Column Encryption Setting=Enabled", "Server Certificate=/a.pem"]
)
def test_freetds_cannot_do_everything(text: str) -> None:
    with pytest.raises(ArgumentError, match="needs Microsoft's ODBC driver"):
        SqlServerDialect().settings(f"Server=host;User Id=u;{text}")


@pytest.mark.usefixtures("_free_tds")
def test_freetds_does_not_pass_for_checking_certificates() -> None:
    for text in (
        "",
        "Encrypt=True",
        "Encrypt=Strict",
        "TrustServerCertificate=False",
        "Encrypt=True;Trust Server Certificate=no",
    ):
        with pytest.raises(ArgumentError, match="which FreeTDS does not do: add TrustServerCertificate=True"):
            SqlServerDialect().settings(f"Server=host;User Id=u;{text}")
    for text in ("Encrypt=False", "Encrypt=False;TrustServerCertificate=False"):
        assert options(f"Server=host;User Id=u;{text}")["encryption"] == "request"
    assert options("Server=host;User Id=u;TrustServerCertificate=True")["encryption"] == "require"


# ODBC


@pytest.mark.parametrize(
    "text",
    [
        "Driver={ODBC Driver 17 for SQL Server};Server=tcp:h,1;UID=u;PWD={a;b=c};Whatever=1",
        "driver=FreeTDS;Server=h;UID=u;PWD={a}}b}",
        "DSN=mine;UID=u",
        "FILEDSN=/etc/mine.dsn",
        "PWD={'a};Driver=x",
    ],
)
def test_odbc_strings_pass_through(text: str) -> None:
    assert is_odbc_string(text)
    assert SqlServerDialect().settings(text).odbc == text
    settings = PostgresDialect().settings(text)
    assert settings.odbc == f"{text};UseServerSidePrepare=0"
    assert settings.session is not None
    assert settings.session.odbc.startswith(f"{text};pqopt=")


@pytest.mark.parametrize("own_way", ["UseServerSidePrepare=1", "PQOPT={application_name=x}"])
def test_an_odbc_string_that_says_how_to_prepare_statements_is_left_alone(own_way: str) -> None:
    settings = PostgresDialect().settings(f"DSN=mine;{own_way}")
    assert settings.odbc == f"DSN=mine;{own_way}"
    assert (settings.prefix, settings.session) == ("", None)


def test_the_password_of_an_odbc_string_is_a_secret() -> None:
    settings = SqlServerDialect().settings("Driver=x;Server=h;Database=d;PWD={a;b}")
    assert settings.secrets == ("a;b",)
    assert settings.address == "h, database d"


def test_a_driver_inside_a_quoted_password_makes_no_odbc_string() -> None:
    assert not is_odbc_string("Server=s;User Id=u;Password='x;Driver=y'")


# PostgreSQL


def postgres(text: str) -> dict[str, str]:
    return options(text, PostgresDialect())


def test_an_npgsql_string_becomes_an_odbc_string() -> None:
    settings = PostgresDialect().settings(
        "Host=db;Port=5433;Database=My Data;Username=me;Password=secret;SSL Mode=VerifyFull;"
        "Root Certificate=/a b/ca.pem;Timeout=3;Command Timeout=9;Application Name=it's;Maximum Pool Size=4"
    )
    assert dict(parse_odbc_string(settings.odbc)) == {
        "driver": "PostgreSQL Unicode",
        "servername": "db",
        "port": "5433",
        "database": "My Data",
        "uid": "me",
        "pwd": "secret",
        "sslmode": "verify-full",
        "useserversideprepare": "0",
        "pqopt": "tcp_user_timeout=30000 application_name='it\\'s' sslrootcert='/a b/ca.pem'",
    }
    assert settings.prefix == "SET LOCAL statement_timeout=9000;"
    assert (settings.login_timeout, settings.command_timeout, settings.max_size) == (3, 9, 4)
    assert settings.address == "db, database My Data"


@pytest.mark.parametrize("text", ["Server=h;DB=d;User Id=u;PWD=p", "host=h;database=d;user name=u;psw=p"])
def test_synonyms_of_npgsql(text: str) -> None:
    found = postgres(text)
    assert [found[key] for key in ("servername", "port", "database", "uid", "pwd")] == ["h", "5432", "d", "u", "p"]
    assert found["sslmode"] == "prefer"


def test_a_url_becomes_an_odbc_string() -> None:
    found = postgres(
        "postgresql://me%40x:p%3Aw%2F%25@db.example.com:5433/my%20data?sslmode=verify-ca&connect_timeout=4"
        "&application_name=a%20b"
    )
    assert found["uid"] == "me@x"
    assert found["pwd"] == "p:w/%"
    assert found["servername"] == "db.example.com"
    assert found["port"] == "5433"
    assert found["database"] == "my data"
    assert found["sslmode"] == "verify-ca"
    assert "application_name='a b'" in found["pqopt"]


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("postgres://", "localhost"),
        ("postgresql://host", "host"),
        ("POSTGRESQL://[::1]:5432/d", "::1"),
        ("postgresql:///d?host=/var/run/postgresql", "/var/run/postgresql"),
    ],
)
def test_short_urls(url: str, server: str) -> None:
    assert postgres(url)["servername"] == server


@pytest.mark.parametrize(
    ("text", "server", "port"),
    [
        ("Host=h:5433", "h", "5433"),
        ("Host=h:5433;Port=1", "h", "5433"),
        ("Host=h", "h", "5432"),
        ("Host=::1", "::1", "5432"),
        ("Host=[::1]:5433", "::1", "5433"),
        ("Host=/var/run/postgresql;Port=5433", "/var/run/postgresql", "5433"),
        ("postgresql://[::1]:5433/d", "::1", "5433"),
        ("postgresql+psycopg2://u@h:5433/d", "h", "5433"),
        ("host=h port=5433", "h", "5433"),
    ],
)
def test_one_host_with_its_port(text: str, server: str, port: str) -> None:
    found = postgres(text)
    assert (found["servername"], found["port"]) == (server, port)


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("Host=a:1,b:2", ["a 1", "b 2"]),
        ("Host=a, b:2,c;Port=7", ["a 7", "b 2", "c 7"]),
        ("postgresql://u:p@a:1,b:2/d", ["a 1", "b 2"]),
        ("postgresql://[::1]:1,b/d", ["::1 1", "b 5432"]),
        ("postgresql+asyncpg://u@/d?host=a:1&host=b:2", ["a 1", "b 2"]),
        ("host=a,b port=1,2 user=u", ["a 1", "b 2"]),
        ("host=a,b port=1", ["a 1", "b 1"]),
    ],
)
def test_several_hosts(text: str, servers: list[str]) -> None:
    settings = PostgresDialect().settings(text)
    found = [dict(parse_odbc_string(one.odbc)) for one in (settings, *settings.fallbacks)]
    assert [f"{server['servername']} {server['port']}" for server in found] == servers
    assert all("target_session_attrs='read-write'" in server["pqopt"] for server in found)


def test_messages_name_every_host() -> None:
    assert PostgresDialect().settings("Host=a:1,b:2;Database=d").address == "a:1,b:2, database d"


@pytest.mark.parametrize(
    "text",
    ["Host=h:0", "Host=h:65536", "Host=a:1,b:x", "Host=h:", "Host=a,b;Port=1,2,3", "Host=a;Port=1,2", "Host=a:²"],
)
def test_ports_of_hosts_that_cannot_be(text: str) -> None:
    with pytest.raises(ArgumentError, match="port"):
        PostgresDialect().settings(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("host=h user=u password=p", ("h", "u", "p")),
        ("  host = h  user = u  password = 'p w' ", ("h", "u", "p w")),
        (r"user=u password='it\'s' host=h", ("h", "u", "it's")),
        (r"password=a\ b;c host=h user=u", ("h", "u", "a b;c")),
    ],
)
def test_libpqs_form_is_read(text: str, values: tuple[str, str, str]) -> None:
    assert type(dialect_of(text)) is PostgresDialect
    found = postgres(text)
    assert (found["servername"], found["uid"], found["pwd"]) == values


def test_sqlalchemys_form_is_read() -> None:
    text = "postgresql+psycopg2://u:p%40w@h:5433/d?sslmode=require"
    assert type(dialect_of(text)) is PostgresDialect
    found = postgres(text)
    keys = ("uid", "pwd", "servername", "port", "database", "sslmode")
    assert [found[key] for key in keys] == ["u", "p@w", "h", "5433", "d", "require"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("postgresql://u:secret@h:port/d", "URL is malformed"),
        ("postgresql://u:secret@[h/d", "URL is malformed"),
        ("postgresql://u@h/d?colour=red", "Option 1 of the connection URL has a keyword that is not supported"),
        ("Host=h;Port=0", "The port of the connection string's host 1 must be a number"),
        ("Host=h;SSL Mode=sometimes", "'ssl mode' must be Disable"),
        ("Host=h;Encrypt=True", "Part 2 of the connection string has a keyword that is not supported"),
    ],
)
def test_what_postgresql_does_not_understand_is_named(text: str, problem: str) -> None:
    with pytest.raises(ArgumentError, match=problem) as caught:
        PostgresDialect().settings(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("Host=h;Database=d;Username=u;Password=p", PostgresDialect),
        ("Server=h;Port=5432;Database=d;User Id=u;Password=p", PostgresDialect),
        ("host=h;user=u;sslmode=require", PostgresDialect),
        ("PostgreSQL://u:p@h/d", PostgresDialect),
        (" postgres://h", PostgresDialect),
        ("Driver={PostgreSQL Unicode};Servername=h", PostgresDialect),
        ("Driver=/usr/lib/psqlodbcw.so;Servername=h", PostgresDialect),
        ("Server=h;Database=d;User Id=u;Password=p;TrustServerCertificate=True", SqlServerDialect),
        ("Server=h;Database=d;User Id=u;Password=p", SqlServerDialect),
        ("Data Source=h;Initial Catalog=d;Integrated Security=SSPI", SqlServerDialect),
        ("Driver={ODBC Driver 18 for SQL Server};Server=h", SqlServerDialect),
        ("DSN=mine", SqlServerDialect),
        ("Server=h;Password=Host=x;User Id=u", SqlServerDialect),
        ("nonsense", SqlServerDialect),
        ("", SqlServerDialect),
    ],
)
def test_a_connection_string_tells_its_dialect(text: str, dialect: type[SqlDialect]) -> None:
    assert type(dialect_of(text)) is dialect
