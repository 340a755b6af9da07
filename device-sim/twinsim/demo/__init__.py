"""`twinsim demo`: the whole project on one machine, as processes, with a story and a verdict."""

from twinsim.demo.command import demo

__all__ = ["demo"]
