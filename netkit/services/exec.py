"""Running a program on one end of a conversation."""

import errno
import os
import subprocess
from collections.abc import Callable, Sequence

from netkit.core.connection import DRAIN, Handler, drain, idle_clock
from netkit.core.errors import Failure
from netkit.core.events import Cut, Observer
from netkit.core.kernel import Group, notify_closing
from netkit.core.policy import Full
from netkit.core.stdio import FileStream
from netkit.core.stream import Connection, RawEnd
from netkit.core.sync import Event
from netkit.services.join import Conversation
from netkit.services.process import LAST_CHANCE, Process, find

_FULL = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)

_OURS = ("NETKIT_PEER_", "NETKIT_LOCAL_")  # an outer netkit's


class Program(FileStream):
    """A running program as a stream: its stdout is what we receive, its stdin what we send to.

    It has descriptors 0 to 2 alone and a process group of its own. What is sent once it stopped reading is dropped: its
    answer may still be on its way. ``answered`` is set at the end of its output.
    """

    def __init__(self, argv: Sequence[str], environment: dict[str, str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = Process(argv, environment, own_group=True, bufsize=0, **pipes)
        stdin, stdout, name = self._process.popen.stdin, self._process.popen.stdout, self._process.name
        assert stdin is not None and stdout is not None
        self._pipes = (stdin, stdout)
        super().__init__(stdout.fileno(), stdin.fileno(), source_name=f"the output of {name}", sink_name=name)
        self.answered = Event()
        self._deaf = False

    def raw_source(self) -> RawEnd | None:
        return super().raw_source()  # whoever moves bytes by it meets the end in ``recv``

    async def recv(self) -> bytes:
        data = await super().recv()
        if not data:
            self.answered.set()
        return data

    async def send(self, data: bytes) -> None:
        if self._deaf:
            return
        try:
            await super().send(data)
        except Failure as failure:
            if failure.errno != errno.EPIPE:
                raise
            self._deaf = True

    async def send_eof(self) -> None:
        """Close our end of the pipe, which takes no descriptor."""
        notify_closing(self._sink)
        self._pipes[0].close()
        self._sink = -1

    async def stopped_reading(self) -> None:
        """Wait until nobody reads its stdin; for ever if we ended it."""
        try:
            if self._sink >= 0:
                await self.reader_left()
        except Failure:
            return
        await Event().wait()

    def close(self) -> None:
        """Close both pipes; the program goes on."""
        super().close()
        for pipe in self._pipes:
            pipe.close()

    async def ended(self) -> int:
        """Wait for the program's own end; return its exit code, 128+n after signal n."""
        return await self._process.ended()

    async def end(self, observe: Observer) -> None:
        """Unless it has ended, end the program and all of its process group."""
        self.close()
        await self._process.end(LAST_CHANCE, observe)


def running(
    argv: Sequence[str], conversation: Conversation, finished: Callable[[int], None], *, alone: bool
) -> Handler:
    """A handler that runs a program over each connection, and tells ``finished`` its exit code.

    When the program's output has ended and it reads no more, the peer is let go once it ended too, or after ``DRAIN``
    seconds. A program that we leave before its output ended is ended, and its exit code is not told.

    Raises Failure at once if there is no such program. A program that cannot be run for one of many clients, who are
    not ``alone``, is told.
    """
    find(argv)
    full = Full()
    idle_timeout, observe = conversation.idle_timeout, conversation.observe

    async def handle(stream: Connection) -> str:
        try:
            program = Program(argv, _environment(stream))
        except Failure as failure:
            if alone:
                pass
            elif failure.errno in _FULL:  # to wait here would keep the descriptors that others need
                full.report("run another program", failure, observe)
            else:
                observe(Cut(stream.peer, str(failure)))
            raise
        how = "program ended first"

        async def see_off() -> None:
            await program.answered.wait()
            await program.stopped_reading()
            await drain(stream, DRAIN, DRAIN)
            group.cancel()

        try:
            async with Group() as group:
                if idle_timeout is not None:
                    group.start_soon(idle_clock(stream, idle_timeout))
                group.start_soon(see_off())
                how = await conversation.relay(program, stream)
                group.cancel()
            if program.answered.is_set():
                program.close()
                code = await program.ended()
                finished(code)
                how = f"{how}, exit code {code}"
        finally:
            await program.end(observe)
        return how

    return handle


def _environment(stream: Connection) -> dict[str, str]:
    """Our environment with both ends of the connection, as far as they have names."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    for side, end in (("PEER", stream.peer), ("LOCAL", stream.local)):
        if end.host is not None:
            environment[f"NETKIT_{side}_HOST"] = end.host
            environment[f"NETKIT_{side}_PORT"] = str(end.port)
    return environment
