"""The statements of the PostgreSQL dialect: one statement, and so one transaction, an operation.

Under READ COMMITTED an UPDATE that waited for another transaction goes on with the row as that one left it, which is
what lets one statement take a lease and read the entry as its last holder wrote it. Under REPEATABLE READ and
SERIALIZABLE such a statement fails instead, and is tried again.
"""

from __future__ import annotations

from typing import Final

from kestrun_py.caching.sql.dialect import Statements, fill_names

__all__ = ["postgres_statements"]

# What a crash of the server may undo (a lease, a slide) does not wait for its disk: a lease that was forgotten is a
# lease that cannot be committed.
_QUICK: Final = "set_config('synchronous_commit', 'off', true) AS quick"

_LIVE: Final = """
    e."Id" = given.id AND e."ExpiresAtTime" >= given.now
    AND (e."AbsoluteExpiration" IS NULL OR e."AbsoluteExpiration" >= given.now)"""

# More than a tenth of the window has passed, or the entry would expire before its lease.
_DUE: Final = """
    e."SlidingExpirationInSeconds" IS NOT NULL
    AND e."AbsoluteExpiration" IS DISTINCT FROM e."ExpiresAtTime"
    AND e."ExpiresAtTime"
        < GREATEST(given.until, given.now + interval '0.9 seconds' * e."SlidingExpirationInSeconds")"""

# LEAST passes over a NULL.
_SLID: Final = """
    LEAST(e."AbsoluteExpiration",
        GREATEST(given.until, given.now + interval '1 second' * e."SlidingExpirationInSeconds"))"""

_GET: Final = f"""
WITH given AS MATERIALIZED (
    SELECT CAST(? AS text) AS id, clock_timestamp() AS now, clock_timestamp() AS until, {_QUICK}
), slid AS (
    UPDATE {{table}} AS e SET "ExpiresAtTime" = {_SLID} FROM given WHERE {_LIVE} AND {_DUE}
)
SELECT e."Value" FROM {{table}} AS e, given WHERE {_LIVE}"""

_REFRESH: Final = f"""
WITH given AS MATERIALIZED (
    SELECT CAST(? AS text) AS id, clock_timestamp() AS now, clock_timestamp() AS until, {_QUICK}
)
UPDATE {{table}} AS e SET "ExpiresAtTime" = {_SLID} FROM given WHERE {_LIVE} AND {_DUE}"""

_EXPIRATION: Final = """
    NULLIF(CAST(? AS bigint), 0) AS sliding, CAST(NULLIF(CAST(? AS text), '') AS timestamptz) AS absolute"""

# An entry without a sliding window expires at its absolute time.
_EXPIRES: Final = "COALESCE(clock_timestamp() + interval '1 second' * given.sliding, given.absolute)"

# A lease that was released or ended: its token is empty, and it has expired.
_NO_TOKEN: Final = "CAST('' AS bytea)"
_EXPIRED: Final = "clock_timestamp() - interval '1 second'"

# The lease of an entry that is replaced ends first, and its row is written: no other takes the lease meanwhile.
# A lease may have outlived its entry, which was purged; where there is neither, there is no holder.
# An entry that comes after its absence was noticed is not replaced.
_STORE: Final = f"""
WITH given AS MATERIALIZED (
    SELECT CAST(? AS text) AS id, CAST(? AS text) AS lease_id, CAST(? AS bytea) AS value, {_EXPIRATION}
), lease AS (
    INSERT INTO {{table}} AS l ("Id", "Value", "ExpiresAtTime")
    SELECT lease_id, {_NO_TOKEN}, {_EXPIRED} FROM given
    WHERE EXISTS (SELECT 1 FROM {{table}} AS e WHERE e."Id" IN (given.id, given.lease_id))
    ON CONFLICT ("Id") DO UPDATE SET "Value" = excluded."Value", "ExpiresAtTime" = excluded."ExpiresAtTime"
    RETURNING 1
), stored AS (
    INSERT INTO {{table}} AS e
        ("Id", "Value", "ExpiresAtTime", "SlidingExpirationInSeconds", "AbsoluteExpiration")
    SELECT id, value, {_EXPIRES}, sliding, absolute FROM given WHERE (SELECT count(*) FROM lease) >= 0
    ON CONFLICT ("Id") DO UPDATE SET
        "Value" = excluded."Value",
        "ExpiresAtTime" = excluded."ExpiresAtTime",
        "SlidingExpirationInSeconds" = excluded."SlidingExpirationInSeconds",
        "AbsoluteExpiration" = excluded."AbsoluteExpiration"
    WHERE (SELECT count(*) FROM lease) > 0
    RETURNING 1
)
SELECT count(*) FROM stored"""

# The lease goes first, as everywhere, so that no two can deadlock.
_REMOVE: Final = """
WITH given AS MATERIALIZED (SELECT CAST(? AS text) AS id, CAST(? AS text) AS lease_id),
lease AS (DELETE FROM {table} AS l USING given WHERE l."Id" = given.lease_id RETURNING 1)
DELETE FROM {table} AS e USING given WHERE e."Id" = given.id AND (SELECT count(*) FROM lease) >= 0"""

_LEASE_GIVEN: Final = f"""
WITH given AS MATERIALIZED (
    SELECT id, lease_id, token, clock_timestamp() AS now, clock_timestamp() + period AS until, period, {_QUICK}
    FROM (SELECT CAST(? AS text) AS id, CAST(? AS text) AS lease_id, CAST(? AS bytea) AS token,
        interval '1 millisecond' * CAST(? AS bigint) AS period) AS parameters
)"""

# A lease that another one holds is looked at before it is asked for: asking locks its row, which its holder needs.
_LOCK: Final = f"""{_LEASE_GIVEN}, entry AS MATERIALIZED (
    SELECT 1 FROM {{table}} AS e, given WHERE {_LIVE}
), lease AS (
    INSERT INTO {{table}} AS l ("Id", "Value", "ExpiresAtTime")
    SELECT lease_id, token, until FROM given WHERE EXISTS (SELECT 1 FROM entry) AND NOT EXISTS (
        SELECT 1 FROM {{table}} AS o
        WHERE o."Id" = given.lease_id AND o."Value" <> given.token AND o."ExpiresAtTime" >= given.now)
    ON CONFLICT ("Id") DO UPDATE SET "Value" = excluded."Value", "ExpiresAtTime" = excluded."ExpiresAtTime"
    WHERE l."Value" = excluded."Value" OR l."ExpiresAtTime" < clock_timestamp()
    RETURNING 1
), loaded AS (
    UPDATE {{table}} AS e SET "ExpiresAtTime" = CASE WHEN {_DUE} THEN {_SLID} ELSE e."ExpiresAtTime" END
    FROM given, lease WHERE {_LIVE}
    RETURNING e."Value" AS value, to_char(e."AbsoluteExpiration" AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')
        AS absolute
)
SELECT (SELECT count(*) FROM lease), (SELECT count(*) FROM entry), loaded.value, loaded.absolute
FROM given LEFT JOIN loaded ON true"""

# An expired lease stays with its holder until another holder takes it, or the entry expires too.
_OURS: Final = f"""
    l."Id" = given.lease_id AND l."Value" = given.token
    AND (l."ExpiresAtTime" >= given.now OR EXISTS (SELECT 1 FROM {{table}} AS e WHERE {_LIVE}))"""

_RENEW: Final = f"""{_LEASE_GIVEN}, lease AS (
    UPDATE {{table}} AS l SET "ExpiresAtTime" = given.until FROM given
    WHERE {_OURS}
    RETURNING 1
), kept AS (
    UPDATE {{table}} AS e SET "ExpiresAtTime" = CASE WHEN {_DUE} THEN {_SLID} ELSE e."ExpiresAtTime" END
    FROM given, lease WHERE e."Id" = given.id
    RETURNING 1
)
SELECT count(*) FROM kept"""

_COMMIT_GIVEN: Final = """
    CAST(? AS text) AS id, CAST(? AS text) AS lease_id, CAST(? AS bytea) AS token, CAST(? AS bytea) AS mark,
    clock_timestamp() AS now"""

_HELD: Final = f"""
    UPDATE {{table}} AS l SET "Value" = given.mark, "ExpiresAtTime" = {_EXPIRED} FROM given
    WHERE {_OURS}
    RETURNING 1"""

_OUTCOME: Final = """
SELECT (SELECT count(*) FROM lease), (SELECT count(*) FROM stored),
    (SELECT l."Value" FROM {table} AS l WHERE l."Id" = given.lease_id),
    (SELECT count(*) FROM {table} AS e WHERE e."Id" = given.id)
FROM given"""

_COMMIT: Final = f"""
WITH given AS MATERIALIZED (SELECT {_COMMIT_GIVEN}, CAST(? AS bytea) AS value, {_EXPIRATION}),
lease AS ({_HELD}
), stored AS (
    UPDATE {{table}} AS e SET "Value" = given.value, "ExpiresAtTime" = {_EXPIRES},
        "SlidingExpirationInSeconds" = given.sliding, "AbsoluteExpiration" = given.absolute
    FROM given, lease WHERE e."Id" = given.id
    RETURNING 1
){_OUTCOME}"""

_COMMIT_REMOVAL: Final = f"""
WITH given AS MATERIALIZED (SELECT {_COMMIT_GIVEN}),
lease AS ({_HELD}
), stored AS (
    DELETE FROM {{table}} AS e USING given, lease WHERE e."Id" = given.id RETURNING 1
){_OUTCOME}"""

# What a lease longer than the window has added to the entry's time is taken off.
_RELEASE: Final = f"""
WITH given AS MATERIALIZED (
    SELECT CAST(? AS text) AS id, CAST(? AS text) AS lease_id, CAST(? AS bytea) AS token,
        clock_timestamp() AS now, {_QUICK}
), lease AS (
    UPDATE {{table}} AS l SET "Value" = {_NO_TOKEN}, "ExpiresAtTime" = {_EXPIRED} FROM given
    WHERE l."Id" = given.lease_id AND l."Value" = given.token
    RETURNING 1
)
UPDATE {{table}} AS e SET "ExpiresAtTime" = given.now + interval '1 second' * e."SlidingExpirationInSeconds"
FROM given, lease WHERE e."Id" = given.id
    AND e."ExpiresAtTime" > given.now + interval '1 second' * e."SlidingExpirationInSeconds\""""

_CLAIM: Final = """
WITH claimed AS (
    INSERT INTO {table} AS l ("Id", "Value", "ExpiresAtTime")
    SELECT CAST(? AS text), CAST(? AS bytea), clock_timestamp() + interval '1 millisecond' * CAST(? AS bigint)
    ON CONFLICT ("Id") DO UPDATE SET "Value" = excluded."Value", "ExpiresAtTime" = excluded."ExpiresAtTime"
    WHERE l."ExpiresAtTime" < clock_timestamp()
    RETURNING 1
)
SELECT count(*) FROM claimed"""

_PURGE: Final = """
WITH expired AS MATERIALIZED (
    SELECT "Id" FROM {table} WHERE "ExpiresAtTime" < now() ORDER BY "ExpiresAtTime" LIMIT 1000 FOR UPDATE SKIP LOCKED
), removed AS (
    DELETE FROM {table} AS e USING expired WHERE e."Id" = expired."Id" RETURNING 1
)
SELECT count(*) FROM removed"""

_TOUCH: Final = """
INSERT INTO {table} ("Id", "Value", "ExpiresAtTime") VALUES (CAST(? AS text), CAST(? AS bytea), clock_timestamp())
ON CONFLICT ("Id") DO UPDATE SET "ExpiresAtTime" = excluded."ExpiresAtTime\""""

_APPEND_KEY: Final = """
WITH given AS MATERIALIZED (
    SELECT CAST(? AS text) AS friendly_name, CAST(? AS text) AS xml, CAST(? AS bigint) AS expected
), added AS (
    INSERT INTO {keys} ("FriendlyName", "Xml") SELECT friendly_name, xml FROM given
    WHERE (SELECT count(*) FROM {keys} WHERE "Xml" IS NOT NULL) = expected
    RETURNING 1
)
SELECT count(*) FROM added"""

_CREATE: Final = """\
CREATE TABLE {table} (
    "Id" varchar(449) COLLATE "C" NOT NULL PRIMARY KEY,
    "Value" bytea NOT NULL,
    "ExpiresAtTime" timestamptz NOT NULL,
    "SlidingExpirationInSeconds" bigint NULL,
    "AbsoluteExpiration" timestamptz NULL
)"""

_CREATE_KEYS: Final = """\
CREATE TABLE {keys} (
    "Id" integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    "FriendlyName" text NULL,
    "Xml" text NULL
)"""


def postgres_statements(table: str, keys: str) -> Statements:
    """The statements for a session table and a table of the key ring, both quoted."""

    def fill(template: str) -> str:
        return fill_names(template, table=table, keys=keys)

    return Statements(
        get=fill(_GET),
        refresh=fill(_REFRESH),
        store=fill(_STORE),
        remove=fill(_REMOVE),
        lock=fill(_LOCK),
        renew=fill(_RENEW),
        commit=fill(_COMMIT),
        commit_removal=fill(_COMMIT_REMOVAL),
        release=fill(_RELEASE),
        claim=fill(_CLAIM),
        purge=fill(_PURGE),
        # The catalogue, for information_schema hides what its reader has no right on.
        table_exists=(
            "SELECT count(*) FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname = ? AND c.relname = ? AND c.relkind IN ('r', 'p', 'v', 'f')"
        ),
        server_version="SELECT split_part(current_setting('server_version'), ' ', 1)",
        read_keys=fill('SELECT "Xml", "Id" FROM {keys} WHERE "Xml" IS NOT NULL ORDER BY "Id"'),
        touch=fill(_TOUCH),
        append_key=fill(_APPEND_KEY),
        create_table=(fill(_CREATE), fill('CREATE INDEX ON {table} ("ExpiresAtTime")')),
        create_keys_table=fill(_CREATE_KEYS),
    )
