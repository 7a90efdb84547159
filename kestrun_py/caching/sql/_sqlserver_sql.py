"""The statements of the SQL Server dialect: one batch, and so one round trip, an operation.

A batch names its parameters once, in a DECLARE, and keeps to what servers that speak T-SQL have in common: no MERGE, no
OUTPUT, no IF, no TRY, no hint that anything but speed depends on. Its statements commit one by one, except in a commit.
Of two inserts of one key at once the second fails, and its batch is tried again, or its caller finds the lock taken.
"""

from __future__ import annotations

from typing import Final

from kestrun_py.caching.sql.dialect import Statements, fill_names

__all__ = ["sqlserver_statements"]

_NOW: Final = "DECLARE @Now DATETIMEOFFSET = CAST(SYSUTCDATETIME() AS DATETIMEOFFSET);"

# What is due is measured against this time; a lease moves it to its own end.
_UNTIL_NOW: Final = "DECLARE @Until DATETIMEOFFSET = @Now;"
_UNTIL_LEASE: Final = "DECLARE @Until DATETIMEOFFSET = DATEADD(MILLISECOND, @Period, @Now);"

_LIVE: Final = """\
[Id] = @Id AND [ExpiresAtTime] >= @Now AND ([AbsoluteExpiration] IS NULL OR [AbsoluteExpiration] >= @Now)"""

# More than a tenth of the window has passed, or the entry would expire before its lease.
_DUE: Final = """\
[SlidingExpirationInSeconds] IS NOT NULL
    AND ([AbsoluteExpiration] IS NULL OR [AbsoluteExpiration] <> [ExpiresAtTime])
    AND ([ExpiresAtTime] < @Until OR [ExpiresAtTime] < DATEADD(MILLISECOND, ([SlidingExpirationInSeconds] % 10) * 900,
        DATEADD(SECOND, ([SlidingExpirationInSeconds] / 10) * 9, @Now)))"""

_SLID: Final = """\
CASE
        WHEN [AbsoluteExpiration] <= DATEADD(SECOND, [SlidingExpirationInSeconds], @Now) THEN [AbsoluteExpiration]
        WHEN [AbsoluteExpiration] <= @Until THEN [AbsoluteExpiration]
        WHEN @Until > DATEADD(SECOND, [SlidingExpirationInSeconds], @Now) THEN @Until
        ELSE DATEADD(SECOND, [SlidingExpirationInSeconds], @Now)
    END"""

_SLIDE: Final = f"UPDATE {{table}} SET [ExpiresAtTime] = {_SLID}\nWHERE {_LIVE} AND {_DUE}"

_GET: Final = f"""\
DECLARE @Id NVARCHAR(449) = ?;
{_NOW}
{_UNTIL_NOW}
{_SLIDE};
SELECT [Value] FROM {{table}} WHERE {_LIVE};"""

_REFRESH: Final = f"""\
DECLARE @Id NVARCHAR(449) = ?;
{_NOW}
{_UNTIL_NOW}
{_SLIDE};"""

_EXPIRATION: Final = f"""\
DECLARE @Sliding BIGINT = NULLIF(CAST(? AS BIGINT), 0);
DECLARE @AbsoluteText NVARCHAR(48) = ?;
DECLARE @Absolute DATETIMEOFFSET = CAST(NULLIF(@AbsoluteText, N'') AS DATETIMEOFFSET);
{_NOW}
DECLARE @Expires DATETIMEOFFSET = CASE WHEN @Sliding IS NULL THEN @Absolute ELSE DATEADD(SECOND, @Sliding, @Now) END;"""

_REPLACE: Final = """\
UPDATE {table} SET [Value] = @Value, [ExpiresAtTime] = @Expires, [SlidingExpirationInSeconds] = @Sliding,
    [AbsoluteExpiration] = @Absolute
WHERE [Id] = @Id"""

# A lease that was released or ended: its token is empty, and it has expired.
_NO_TOKEN: Final = "CAST('' AS VARBINARY(64))"
_EXPIRED: Final = "DATEADD(SECOND, -1, @Now)"

# The lease of an entry that is replaced ends first, and its row is locked to the end of the transaction: no other
# takes the lease meanwhile. It may have outlived its entry, which was purged. An entry that comes after its absence was
# noticed is not replaced, but a duplicate.
_STORE: Final = f"""\
DECLARE @Id NVARCHAR(449) = ?;
DECLARE @LeaseId NVARCHAR(449) = ?;
DECLARE @Value VARBINARY(MAX) = ?;
{_EXPIRATION}
DECLARE @Stored INT;
DECLARE @Present INT = (SELECT COUNT(*) FROM {{table}} WHERE [Id] = @Id);
BEGIN TRANSACTION;
UPDATE {{table}} SET [Value] = {_NO_TOKEN}, [ExpiresAtTime] = {_EXPIRED} WHERE [Id] = @LeaseId;
INSERT INTO {{table}} ([Id], [Value], [ExpiresAtTime])
SELECT @LeaseId, {_NO_TOKEN}, {_EXPIRED}
WHERE @Present = 1 AND NOT EXISTS (SELECT 1 FROM {{table}} WHERE [Id] = @LeaseId);
{_REPLACE} AND @Present = 1;
SET @Stored = @@ROWCOUNT;
INSERT INTO {{table}} ([Id], [Value], [ExpiresAtTime], [SlidingExpirationInSeconds], [AbsoluteExpiration])
SELECT @Id, @Value, @Expires, @Sliding, @Absolute WHERE @Present = 0;
SET @Stored = @Stored + @@ROWCOUNT;
COMMIT TRANSACTION;
SELECT @Stored AS [Stored];"""

_REMOVE: Final = """\
DECLARE @Id NVARCHAR(449) = ?;
DECLARE @LeaseId NVARCHAR(449) = ?;
DELETE FROM {table} WHERE [Id] = @LeaseId;
DELETE FROM {table} WHERE [Id] = @Id;"""

_LEASE_GIVEN: Final = f"""\
DECLARE @Id NVARCHAR(449) = ?;
DECLARE @LeaseId NVARCHAR(449) = ?;
DECLARE @Token VARBINARY(64) = ?;
DECLARE @Period INT = ?;
{_NOW}
{_UNTIL_LEASE}"""

_PRESENT: Final = f"EXISTS (SELECT 1 FROM {{table}} WHERE {_LIVE})"

# The entry is read by a statement of its own, after the lease was taken: at any isolation level, that statement
# sees what the lease's last holder committed.
_LOCK: Final = f"""\
{_LEASE_GIVEN}
UPDATE {{table}} SET [Value] = @Token, [ExpiresAtTime] = @Until
WHERE [Id] = @LeaseId AND ([ExpiresAtTime] < @Now OR [Value] = @Token) AND {_PRESENT};
INSERT INTO {{table}} ([Id], [Value], [ExpiresAtTime])
SELECT @LeaseId, @Token, @Until
WHERE NOT EXISTS (SELECT 1 FROM {{table}} WHERE [Id] = @LeaseId) AND {_PRESENT};
{_SLIDE}
    AND EXISTS (SELECT 1 FROM {{table}} AS l WHERE l.[Id] = @LeaseId AND l.[Value] = @Token);
SELECT
    (SELECT COUNT(*) FROM {{table}} WHERE [Id] = @LeaseId AND [Value] = @Token) AS [Held],
    (SELECT COUNT(*) FROM {{table}} WHERE {_LIVE}) AS [Present],
    (SELECT [Value] FROM {{table}} WHERE {_LIVE}) AS [Value],
    (SELECT CAST([AbsoluteExpiration] AS NVARCHAR(48)) FROM {{table}} WHERE {_LIVE}) AS [Absolute];"""

# An expired lease stays with its holder until another holder takes it, or the entry expires too.
_OURS: Final = f"[Id] = @LeaseId AND [Value] = @Token AND ([ExpiresAtTime] >= @Now OR {_PRESENT})"

_RENEW: Final = f"""\
{_LEASE_GIVEN}
DECLARE @Held INT;
UPDATE {{table}} SET [ExpiresAtTime] = @Until WHERE {_OURS};
SET @Held = @@ROWCOUNT;
UPDATE {{table}} SET [ExpiresAtTime] = {_SLID}
WHERE [Id] = @Id AND @Held = 1 AND {_DUE};
SELECT COUNT(*) AS [Renewed] FROM {{table}} WHERE [Id] = @Id AND @Held = 1;"""

_COMMIT_GIVEN: Final = """\
DECLARE @Id NVARCHAR(449) = ?;
DECLARE @LeaseId NVARCHAR(449) = ?;
DECLARE @Token VARBINARY(64) = ?;
DECLARE @Mark VARBINARY(64) = ?;"""

# The first UPDATE locks its row to the end of the transaction: no other takes the lease between the two.
_HELD: Final = f"""\
DECLARE @Held INT;
DECLARE @Stored INT;
DECLARE @Before VARBINARY(64) = (SELECT CAST([Value] AS VARBINARY(64)) FROM {{table}} WHERE [Id] = @LeaseId);
DECLARE @Present INT = (SELECT COUNT(*) FROM {{table}} WHERE [Id] = @Id);
BEGIN TRANSACTION;
UPDATE {{table}} SET [Value] = @Mark, [ExpiresAtTime] = {_EXPIRED} WHERE {_OURS};
SET @Held = @@ROWCOUNT;"""

_OUTCOME: Final = """\
SET @Stored = @@ROWCOUNT;
COMMIT TRANSACTION;
SELECT @Held AS [Held], @Stored AS [Stored], @Before AS [Before], @Present AS [Present];"""

_COMMIT: Final = f"""\
{_COMMIT_GIVEN}
DECLARE @Value VARBINARY(MAX) = ?;
{_EXPIRATION}
{_HELD}
{_REPLACE} AND @Held = 1;
{_OUTCOME}"""

_COMMIT_REMOVAL: Final = f"""\
{_COMMIT_GIVEN}
{_NOW}
{_HELD}
DELETE FROM {{table}} WHERE [Id] = @Id AND @Held = 1;
{_OUTCOME}"""

# What a lease longer than the window has added to the entry's time is taken off, while the lease is still held.
_RELEASE: Final = f"""\
DECLARE @Id NVARCHAR(449) = ?;
DECLARE @LeaseId NVARCHAR(449) = ?;
DECLARE @Token VARBINARY(64) = ?;
{_NOW}
UPDATE {{table}} SET [ExpiresAtTime] = DATEADD(SECOND, [SlidingExpirationInSeconds], @Now)
WHERE [Id] = @Id AND [ExpiresAtTime] > DATEADD(SECOND, [SlidingExpirationInSeconds], @Now)
    AND EXISTS (SELECT 1 FROM {{table}} AS l
        WHERE l.[Id] = @LeaseId AND l.[Value] = @Token AND l.[ExpiresAtTime] >= @Now);
UPDATE {{table}} SET [Value] = {_NO_TOKEN}, [ExpiresAtTime] = {_EXPIRED}
WHERE [Id] = @LeaseId AND [Value] = @Token;"""

_CLAIM: Final = f"""\
DECLARE @LeaseId NVARCHAR(449) = ?;
DECLARE @Token VARBINARY(64) = ?;
DECLARE @Period INT = ?;
{_NOW}
{_UNTIL_LEASE}
UPDATE {{table}} SET [Value] = @Token, [ExpiresAtTime] = @Until WHERE [Id] = @LeaseId AND [ExpiresAtTime] < @Now;
INSERT INTO {{table}} ([Id], [Value], [ExpiresAtTime])
SELECT @LeaseId, @Token, @Until WHERE NOT EXISTS (SELECT 1 FROM {{table}} WHERE [Id] = @LeaseId);
SELECT COUNT(*) AS [Claimed] FROM {{table}} WHERE [Id] = @LeaseId AND [Value] = @Token;"""

_PURGE: Final = f"""\
{_NOW}
DELETE TOP (1000) FROM {{table}} WITH (READPAST) WHERE [ExpiresAtTime] < @Now;
SELECT @@ROWCOUNT AS [Removed];"""

_TOUCH: Final = f"""\
DECLARE @LeaseId NVARCHAR(449) = ?;
DECLARE @Value VARBINARY(64) = ?;
{_NOW}
UPDATE {{table}} SET [ExpiresAtTime] = @Now WHERE [Id] = @LeaseId;
INSERT INTO {{table}} ([Id], [Value], [ExpiresAtTime])
SELECT @LeaseId, @Value, @Now WHERE NOT EXISTS (SELECT 1 FROM {{table}} WHERE [Id] = @LeaseId);"""

_APPEND_KEY: Final = """\
DECLARE @FriendlyName NVARCHAR(MAX) = ?;
DECLARE @Xml NVARCHAR(MAX) = ?;
DECLARE @Expected INT = ?;
INSERT INTO {keys} ([FriendlyName], [Xml])
SELECT @FriendlyName, @Xml WHERE (SELECT COUNT(*) FROM {keys} WHERE [Xml] IS NOT NULL) = @Expected;
SELECT @@ROWCOUNT AS [Added];"""

_CREATE: Final = """\
CREATE TABLE {table} (
    [Id] NVARCHAR(449) COLLATE SQL_Latin1_General_CP1_CS_AS NOT NULL PRIMARY KEY,
    [Value] VARBINARY(MAX) NOT NULL,
    [ExpiresAtTime] DATETIMEOFFSET NOT NULL,
    [SlidingExpirationInSeconds] BIGINT NULL,
    [AbsoluteExpiration] DATETIMEOFFSET NULL
)"""

_CREATE_INDEX: Final = "CREATE NONCLUSTERED INDEX [Index_ExpiresAtTime] ON {table} ([ExpiresAtTime])"

_CREATE_KEYS: Final = """\
CREATE TABLE {keys} (
    [Id] INT IDENTITY(1, 1) NOT NULL PRIMARY KEY,
    [FriendlyName] NVARCHAR(MAX) NULL,
    [Xml] NVARCHAR(MAX) NULL
)"""


def sqlserver_statements(table: str, keys: str) -> Statements:
    """The statements for a session table and a table of the key ring, both quoted."""

    def fill(template: str) -> str:
        return fill_names(template, table=table, keys=keys)

    def batch(template: str) -> str:
        # Without the counts of its statements, the first thing that a batch answers is its result set or its error.
        return "SET NOCOUNT ON;\n" + fill(template)

    return Statements(
        get=batch(_GET),
        refresh=batch(_REFRESH),
        store=batch(_STORE),
        remove=batch(_REMOVE),
        lock=batch(_LOCK),
        renew=batch(_RENEW),
        commit=batch(_COMMIT),
        commit_removal=batch(_COMMIT_REMOVAL),
        release=batch(_RELEASE),
        claim=batch(_CLAIM),
        purge=batch(_PURGE),
        table_exists="SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
        server_version="SELECT CAST(SERVERPROPERTY('ProductVersion') AS NVARCHAR(128))",
        read_keys=fill("SELECT [Xml], [Id] FROM {keys} WHERE [Xml] IS NOT NULL ORDER BY [Id]"),
        touch=batch(_TOUCH),
        append_key=batch(_APPEND_KEY),
        create_table=(fill(_CREATE), fill(_CREATE_INDEX)),
        create_keys_table=fill(_CREATE_KEYS),
    )
