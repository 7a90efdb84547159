"""The Redis cache."""

from kestrun_py.caching.redis.cache import RedisCache
from kestrun_py.caching.redis.keys import RedisXmlRepository
from kestrun_py.caching.redis.options import RedisOptions

__all__ = ["RedisCache", "RedisOptions", "RedisXmlRepository"]
