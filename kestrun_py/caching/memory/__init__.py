"""The cache in this process's memory."""

from kestrun_py.caching.memory.cache import MemoryCache

__all__ = ["MemoryCache"]
