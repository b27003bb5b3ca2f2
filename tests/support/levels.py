"""The level of a test: how much of the world it needs. It follows from what a test can reach, if it is not marked.

``pure`` calls functions, ``memory`` runs tasks on the kernel, ``loopback`` has sockets or terminals, ``process`` starts
programs, ``interop`` starts other people's: these are the tests of that folder.
"""

import functools
import inspect
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

LEVELS = ("pure", "memory", "loopback", "process", "interop")

# What makes a test one of a level: a module, a function or a class that it, or what it uses of the tests, names.
_REACHED = {
    "netkit.core.kernel.run": "memory",
    "netkit.core.tcp_server.listen": "loopback",
    "socket": "loopback",
    "pty": "loopback",
    "subprocess": "process",
    "tests.support.forkserver.Process": "process",
}
# The events of sys.audit that only a test of a level, or above, may raise.
_ALLOWED_FROM = {"socket.bind": "loopback", "socket.connect": "loopback", "subprocess.Popen": "process"}

_current = LEVELS[-1]


def level_of(item: pytest.Function) -> str:
    """The level that a test is marked with, or else that of what it, its fixtures and its parameters can reach."""
    for level in LEVELS:
        if item.get_closest_marker(level):
            return level
    if "interop" in item.path.parts:
        return "interop"
    test = getattr(item.obj, "hypothesis", None)
    starts = [test.inner_test if test else item.obj]
    starts += [fixture.func for found in item._fixtureinfo.name2fixturedefs.values() for fixture in found]
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return LEVELS[max(_level(parameters), *map(_level_of_function, starts))]


@functools.cache
def _level_of_function(function: Any) -> int:
    return _level([function])


def _level(things: Iterable[Any]) -> int:
    return max((LEVELS.index(_REACHED.get(name, "pure")) for name in _reached(things)), default=0)


def _reached(things: Iterable[Any]) -> Iterator[str]:
    """Yield the names of all modules, functions and classes that ``things`` use, themselves or by way of the tests."""
    waiting, seen = list(things), set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, types.ModuleType):
            yield thing.__name__
        elif isinstance(thing, dict):
            waiting += thing.values()
        elif isinstance(thing, list | tuple | set | frozenset):
            waiting += thing
        elif isinstance(thing, type | types.FunctionType):
            yield f"{thing.__module__}.{thing.__qualname__}"
            if (thing.__module__ or "").startswith("tests."):
                waiting += _used(thing)


def _used(thing: Any) -> Iterator[Any]:
    """Yield what a function or class names, where that is something of its module's."""
    if isinstance(thing, type):
        yield from (getattr(member, "fget", member) for member in vars(thing).values())
        return
    thing = inspect.unwrap(thing)
    names = set(_names(thing.__code__))
    for name in names & set(thing.__globals__):
        found = thing.__globals__[name]
        yield found
        if isinstance(found, types.ModuleType) and found.__name__.startswith(("tests.", "netkit.")):
            yield from (getattr(found, attribute, None) for attribute in names)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def enforce(level: str) -> None:
    """From now on refuse what is above a level."""
    global _current
    _current = level


def _audit(event: str, _: Any) -> None:
    needed = _ALLOWED_FROM.get(event)
    if needed is not None and LEVELS.index(_current) < LEVELS.index(needed):
        raise RuntimeError(f"{event} makes this {_current} test one of level {needed}: mark it so")


sys.addaudithook(_audit)
