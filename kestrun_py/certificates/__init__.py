"""Certificates for https endpoints."""

__all__: list[str] = []
