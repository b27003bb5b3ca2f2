"""What users of other tools type: each is refused with what to type here, which there is."""

import re

import pytest

from netkit.cli.app import all_commands
from netkit.cli.habits import COMMAND_HABITS, by_name
from tests.support.refusals import mistake, refused

COMMANDS = all_commands()
OPTIONS = [
    (name, option, advice)
    for name, command in COMMANDS.items()
    for option, advice in command.habits.items()
    if option not in command.options  # which has that meaning for servers, for one, and not for this command
]
WORDS = by_name(COMMAND_HABITS)


@pytest.mark.parametrize(("name", "option", "advice"), OPTIONS)
def test_an_option_of_another_tool(name: str, option: str, advice: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An option that other tools have is refused before anything else, with advice."""
    assert refused(capfd, name, "h", "1", option) == f"no such option {option!r}: {advice}"


@pytest.mark.parametrize("word", WORDS)
def test_another_tool(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    """So is the name of another tool, or of what it does."""
    assert mistake(capfd, [word, "h"]) == f"netkit: no such command {word!r}: {WORDS[word]}"


@pytest.mark.parametrize(("name", "advice"), [*((name, advice) for name, _, advice in OPTIONS), *WORDS.items()])
def test_advice_is_about_what_there_is(name: str, advice: str) -> None:
    """Each option in an advice is one of the command that was typed, or of one that the advice names."""
    named = re.findall(r"netkit ([a-z][a-z-]*)", advice)
    assert set(named) <= COMMANDS.keys()
    known = {"--version"}.union(*(COMMANDS[each].options for each in (name, *named) if each in COMMANDS))
    assert set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", advice)) <= known


@pytest.mark.parametrize(("name", "option", "advice"), OPTIONS)
def test_advice_stays_with_a_command_that_can_do_it(name: str, option: str, advice: str) -> None:
    """The option of other commands is advised only if the command that was typed has no such option."""
    if found := re.match(r"(--[\w-]+) .*of netkit ", advice):
        assert found[1] not in COMMANDS[name].options
