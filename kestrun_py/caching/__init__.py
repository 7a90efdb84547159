"""Caches: the contract, and its implementations for memory, Redis and SQL databases."""

from kestrun_py.caching.contract import Busy, CacheStatus, DistributedCache, Expiration, Lease

__all__ = ["Busy", "CacheStatus", "DistributedCache", "Expiration", "Lease"]
