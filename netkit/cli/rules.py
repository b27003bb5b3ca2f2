"""Rules for which options go together. They are data, which commands check, man pages show and a test goes through.

A rule names options as they are typed, ``--grace`` or ``-4``; ``--output hex`` is the option with that value only. An
option counts as given if it was typed, with any value. A Case is a condition other than an option.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from netkit.core.errors import Invalid

Values = Mapping[str, Any]
"""The parameters of a command, as click has parsed them."""


class Case(NamedTuple):
    """A condition of a rule that is not an option. ``name`` is its name in messages and man pages."""

    name: str
    holds: Callable[[Values], object]


Term = str | Case


class Rule(NamedTuple):
    """The ``terms`` exclude the ``others`` or, if ``needed``, need at least one of them.

    Without ``others`` the terms exclude each other.
    """

    terms: tuple[Term, ...]
    others: tuple[Term, ...] = ()
    why: str = ""
    needed: bool = False

    def broken(self, given: Callable[[Term], bool]) -> str:
        """The message if the given terms break the rule, otherwise empty."""
        found = [name_of(term) for term in self.terms if given(term)]
        if not self.others:
            return f"{found[0]} and {found[1]} exclude each other" if len(found) > 1 else ""
        if not found or any(map(given, self.others)) is self.needed:
            return ""
        return f"{found[0]} does not apply: {self.why}" if self.why else f"{found[0]} needs {_listed(self.others)}"


def one_of(*terms: Term) -> Rule:
    """At most one of these may be given."""
    return Rule(terms)


def excluded(*terms: Term, by: Term | tuple[Term, ...], why: str) -> Rule:
    """These do not apply with any of ``by``."""
    return Rule(terms, (by,) if isinstance(by, Term) else by, why)


def needs(*terms: Term, on: Term | tuple[Term, ...], why: str = "") -> Rule:
    """These apply only with one of ``on``."""
    return Rule(terms, (on,) if isinstance(on, Term) else on, why, needed=True)


def check(rules: Iterable[Rule], options: Mapping[str, click.Option], ctx: click.Context) -> None:
    """Raise Invalid for the first rule that is broken."""

    def given(term: Term) -> bool:
        if isinstance(term, Case):
            return bool(term.holds(ctx.params))
        name, _, value = term.partition(" ")
        field = options[name].name or ""
        typed = ctx.get_parameter_source(field) is ParameterSource.COMMANDLINE
        return typed and value in ("", ctx.params[field])

    for rule in rules:
        if message := rule.broken(given):
            raise Invalid(message)


def sentences(rules: Iterable[Rule], names: Iterable[str]) -> str:
    """What the rules say of an option, for its man page: ``Needs --cert. Not with --hold.``."""
    needed, barred = [], []
    for rule in rules:
        terms, others = list(map(name_of, rule.terms)), list(map(name_of, rule.others))
        for name in names:
            if name in terms and rule.needed:
                needed.append(f"Needs {_listed(others)}.")
            elif name in terms:
                barred += others or [term for term in terms if term != name]
            elif name in others and not rule.needed:
                barred += terms
    if barred:
        needed.append(f"Not with {_listed(dict.fromkeys(barred))}.")
    return " ".join(needed)


def name_of(term: Term) -> str:
    """The name of an option or a case in messages."""
    return term if isinstance(term, str) else term.name


def _listed(terms: Iterable[Term]) -> str:
    *first, last = map(name_of, terms)
    return f"{', '.join(first)} or {last}" if first else last
