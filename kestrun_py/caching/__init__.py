"""Caches: the contract, and its implementations for memory, Redis and SQL databases."""

from kestrun_py.caching.contract import DistributedCache
from kestrun_py.caching.expiration import Expiration
from kestrun_py.caching.leases import Busy, Lease
from kestrun_py.caching.status import CacheStatus

__all__ = ["Busy", "CacheStatus", "DistributedCache", "Expiration", "Lease"]
