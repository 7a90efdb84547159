"""The servers that the samples keep their sessions in."""

from sample_servers import postgres_database, postgres_table, redis_url

__all__ = ["postgres_database", "postgres_table", "redis_url"]
