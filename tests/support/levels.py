"""The level of a test: what it uses of the system. It is found from the names that a test uses, unless it is marked.

``pure`` tests call functions, ``memory`` ones run tasks on the kernel, ``loopback`` ones use sockets or terminals,
``process`` ones start programs. ``interop`` ones, those of that folder, start programs other than netkit.
"""

import functools
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

LEVELS = ("pure", "memory", "loopback", "process", "interop")

# The modules, functions and classes that give a level to a test that uses them, itself or through other test code.
_REACHED = {
    "netkit.core.kernel.run": "memory",
    "netkit.core.tcp_server.listen": "loopback",
    "socket": "loopback",
    "pty": "loopback",
    "subprocess": "process",
    "tests.support.forkserver.Process": "process",
}
# The events of sys.audit that a test may raise only from this level on.
_ALLOWED_FROM = {"socket.bind": "loopback", "socket.connect": "loopback", "subprocess.Popen": "process"}

_current = LEVELS[-1]


def level_of(item: pytest.Function) -> str:
    """The level that a test is marked with, or else the highest that it, its fixtures and its parameters use."""
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
    """Yield the names of all modules, functions and classes that ``things`` use, directly or through test code."""
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
    """Yield the objects of its module, and their attributes, that a function or class names."""
    if isinstance(thing, type):
        yield from (getattr(member, "fget", member) for member in vars(thing).values())
        return
    if hasattr(thing, "__wrapped__"):
        yield thing.__wrapped__
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
    """From now on, raise RuntimeError for what is above a level."""
    global _current
    _current = level


def _audit(event: str, _: Any) -> None:
    needed = _ALLOWED_FROM.get(event)
    if needed is not None and LEVELS.index(_current) < LEVELS.index(needed):
        raise RuntimeError(f"{event} makes this {_current} test one of level {needed}: mark it so")


sys.addaudithook(_audit)
