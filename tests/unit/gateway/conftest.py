"""What the gateway's unit tests share."""

from fakes.logged import logged

__all__ = ["logged"]
