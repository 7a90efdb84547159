"""What Redis does for the cache, in Lua: each script works on one key and is one round trip.

An entry is the hash of ASP.NET Core: ``absexp`` and ``sldexp`` in .NET ticks (-1 for none) and ``data``.
While a request holds the lock, ``kr.lock`` is its token and ``kr.until`` the server's time, in milliseconds,
at which the lock frees itself. A request that finds the lock taken leaves its token in ``kr.wait``: the next
turn is kept for it until ``kr.wait.until``, and whoever frees the lock says so on the channel of its process.
The key lives as long as its lock. ``kr.ttl`` is the time at which it would have expired without one, where that
cannot be told from ``absexp`` and ``sldexp``: ASP.NET Core may have given it a time to live that is not in these.

Other programs may write to the server. An expiration that is no such number counts as none, a key of another type as no
entry, and a lock whose end is no time within a day as free.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["CHANNEL", "TOKEN_OWNER", "Script"]

#: A token begins with this many characters that name the process.
TOKEN_OWNER: Final = 16

#: Processes are told of freed locks on the channel of this name and theirs.
CHANNEL: Final = "kestrun:wake:"

# How long a freed lock is kept for a waiter that has not come back: more than the longest pause of a waiter.
_TURN_MILLISECONDS: Final = 250

_LONGEST_LEASE_MILLISECONDS: Final = 86_400_000

# `prove_primary` is a write that changes nothing, which a replica refuses: it may not know what its primary stores.
_COMMON: Final = f"""
local key = KEYS[1]
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function attempt(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return nil end
  return redis.call(...)
end
local function fields(...)
  return attempt('HMGET', key, ...) or {{}}
end
local function whole(text)
  if text and #text <= 19 and string.find(text, '^%-?%d+$') then return tonumber(text) end
end
local function remaining(milliseconds)
  local left = (whole(milliseconds) or 0) - clock()
  if left > {_LONGEST_LEASE_MILLISECONDS} then return 0 end
  return left
end
local function life(absexp, sldexp)
  local left
  local sliding, absolute = whole(sldexp) or -1, whole(absexp) or -1
  if sliding >= 0 then left = math.max(1, math.floor(sliding / 10000)) end
  if absolute >= 0 then
    local rest = math.floor(absolute / 10000) - 62135596800000 - clock()
    if not left or rest < left then left = rest end
  end
  return left
end
local function prove_primary()
  attempt('HDEL', key, 'kr.none')
end
local function extend(absexp, sldexp, held)
  local left = life(absexp, sldexp)
  local live = not left or left > 0
  if live and left and (whole(sldexp) or -1) >= 0 then
    if held then left = math.max(left, remaining(held)) end
    redis.call('PEXPIRE', key, left)
  else
    prove_primary()
  end
  return live
end
local function keep(left, lease)
  local ttl = redis.call('PTTL', key)
  if ttl < 0 or ttl >= lease then return end
  if not left then redis.call('HSETNX', key, 'kr.ttl', clock() + ttl) end
  redis.call('PEXPIRE', key, lease)
end
local function wake(waiter)
  if waiter then redis.pcall('PUBLISH', '{CHANNEL}' .. string.sub(waiter, 1, {TOKEN_OWNER}), key) end
end
"""

# What was just written must not stay for ever where the server refuses to let it expire. Asked before that, the server
# would not check `maxmemory` for what is written: it does so for the first write of a script alone.
_EXPIRE: Final = """
local function expire(left)
  local refusal = redis.pcall('PEXPIRE', key, left)
  if type(refusal) == 'number' then return nil end
  if redis.call('PTTL', key) < 0 then redis.call('DEL', key) end
  return refusal
end
"""


class Script:
    """A Lua script.

    Attributes:
        source: Its text.
        sha: What EVALSHA calls it.
    """

    __slots__ = ("sha", "source")

    def __init__(self, source: str) -> None:
        self.source = (_COMMON + source).encode()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()


# Without arguments; returns the data, or nil.
GET: Final = Script("""
local entry = fields('data', 'absexp', 'sldexp', 'kr.until')
return extend(entry[2], entry[3], entry[4]) and entry[1]
""")

# As GET, without the data.
REFRESH: Final = Script("""
local entry = fields('absexp', 'sldexp', 'kr.until')
extend(entry[1], entry[2], entry[3])
""")

# absexp, sldexp, data. A script that begins with a DEL would be exempt from `maxmemory`.
STORE: Final = Script(f"""{_EXPIRE}
local waiter = attempt('HGET', key, 'kr.wait')
if waiter == nil then redis.call('DEL', key) end
redis.call('HSET', key, 'absexp', ARGV[1], 'sldexp', ARGV[2], 'data', ARGV[3])
redis.call('HDEL', key, 'kr.lock', 'kr.until', 'kr.wait', 'kr.wait.until', 'kr.ttl')
local refusal = expire(life(ARGV[1], ARGV[2]))
wake(waiter)
return refusal
""")

REMOVE: Final = Script("""
local waiter = attempt('HGET', key, 'kr.wait')
redis.call('DEL', key)
wake(waiter)
""")

# token, lease in milliseconds; returns {data, absexp}, 0 if the lock is taken, or nil if there is no entry.
LOCK: Final = Script(f"""
local token, lease = ARGV[1], tonumber(ARGV[2])
local entry = fields(
  'data', 'absexp', 'sldexp', 'kr.lock', 'kr.until', 'kr.wait', 'kr.wait.until')
local left = life(entry[2], entry[3])
if not entry[1] or (left and left <= 0) then
  prove_primary()
  return false
end
local now = clock()
local held = entry[4] and entry[4] ~= token and remaining(entry[5]) > 0
local promised = entry[6] and entry[6] ~= token and remaining(entry[7]) > 0
if held or promised then
  if not promised then redis.call('HSET', key, 'kr.wait', token, 'kr.wait.until', now + {_TURN_MILLISECONDS}) end
  return 0
end
if entry[6] then redis.call('HDEL', key, 'kr.wait', 'kr.wait.until') end
redis.call('HSET', key, 'kr.lock', token, 'kr.until', now + lease)
if left then
  redis.call('PEXPIRE', key, math.max(left, lease))
else
  -- a key that has outlived its last lock was given another time to live meanwhile
  if entry[4] ~= token then redis.call('HDEL', key, 'kr.ttl') end
  keep(left, lease)
end
return {{entry[1], entry[2]}}
""")

# token, lease in milliseconds; returns 1, or 0 if the lease is lost.
RENEW: Final = Script("""
local entry = fields('kr.lock', 'absexp', 'sldexp')
if entry[1] ~= ARGV[1] then return 0 end
local lease = tonumber(ARGV[2])
redis.call('HSET', key, 'kr.until', clock() + lease)
keep(life(entry[2], entry[3]), lease)
return 1
""")

# token, absexp, sldexp, data; returns 1, or 0 if the lease is lost.
COMMIT: Final = Script(f"""{_EXPIRE}
local entry = fields('kr.lock', 'kr.wait')
if entry[1] ~= ARGV[1] then return 0 end
redis.call('HSET', key, 'absexp', ARGV[2], 'sldexp', ARGV[3], 'data', ARGV[4])
local refusal = expire(life(ARGV[2], ARGV[3]))
if refusal then return refusal end
redis.call('HDEL', key, 'kr.lock', 'kr.until', 'kr.ttl')
wake(entry[2])
return 1
""")

# token; removes the entry; returns 1, or 0 if the lease is lost.
COMMIT_REMOVAL: Final = Script("""
local entry = fields('kr.lock', 'kr.wait')
if entry[1] ~= ARGV[1] then return 0 end
redis.call('DEL', key)
wake(entry[2])
return 1
""")

# token; gives up the lock, or the turn that is kept for a waiter.
RELEASE: Final = Script("""
local entry = fields('kr.lock', 'kr.wait', 'absexp', 'sldexp', 'kr.ttl')
if entry[2] == ARGV[1] then
  redis.call('HDEL', key, 'kr.wait', 'kr.wait.until')
  entry[2] = nil
end
if entry[1] ~= ARGV[1] then return end
redis.call('HDEL', key, 'kr.lock', 'kr.until', 'kr.ttl')
local left = life(entry[3], entry[4])
if left then
  redis.call('PEXPIRE', key, left)
elseif whole(entry[5]) then
  redis.pcall('PEXPIREAT', key, entry[5])
end
wake(entry[2])
""")

# The number of elements that the caller has read, the new element; returns 1, or 0 if the list has grown.
APPEND: Final = Script("""
if redis.call('LLEN', key) ~= tonumber(ARGV[1]) then return 0 end
redis.call('RPUSH', key, ARGV[2])
return 1
""")
