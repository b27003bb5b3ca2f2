"""Running a program for each connection, with the connection as its stdin and stdout (``--exec``)."""

import errno
import os
import subprocess
from collections.abc import Callable, Sequence

from netkit.core.connection import DRAIN, Ended, Handler, drain
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

_OURS = ("NETKIT_PEER_", "NETKIT_LOCAL_")  # variables that an outer netkit may have set


class Program(FileStream):
    """A running program as a stream: we receive its stdout, and send to its stdin.

    It inherits only descriptors 0 to 2, and has its own process group. Once it has closed its stdin, what we send is
    dropped, as its output may still come. ``answered`` is set at the end of its output.
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
        return super().raw_source()  # after moving bytes the caller gets the end from ``recv``, which sets ``answered``

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
        """Close our end of the pipe, without the /dev/null that the base class opens in its place."""
        notify_closing(self._sink)
        self._pipes[0].close()
        self._sink = -1

    async def stopped_reading(self) -> None:
        """Wait until its stdin has no reader; forever if we closed it."""
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
        """Wait until the program exits; return its exit code, 128+n after signal n."""
        return await self._process.ended()

    async def end(self, observe: Observer) -> None:
        """Close both pipes and, unless the program has exited, end it and its process group."""
        self.close()
        await self._process.end(LAST_CHANCE, observe)


def running(
    argv: Sequence[str], conversation: Conversation, finished: Callable[[int], None], *, alone: bool
) -> Handler:
    """A handler that runs a program for each connection, and calls ``finished`` with its exit code.

    Once the program has ended its output and closed its stdin, the conversation ends with the peer's end, or after
    ``DRAIN`` seconds of silence. If the conversation ends before the program's output, the program is ended by a
    signal, and its exit code is not reported.

    For a connection that was reset before, such as in the backlog, no program is started. Raises Failure at once if
    there is no such program. Unless the connection is ``alone``, so that its failure is that
    of the command, a program that cannot be run is also reported to ``observe``.
    """
    find(argv)
    full = Full()
    observe = conversation.observe

    async def handle(stream: Connection) -> Ended:
        stream.raise_if_reset()
        try:
            program = Program(argv, _environment(stream))
        except Failure as failure:
            if alone:
                pass
            elif failure.errno in _FULL:  # waiting here would keep descriptors that other clients need
                full.report("run another program", failure, observe)
            else:
                observe(Cut(stream.peer, str(failure)))
            raise
        how = Ended("program ended first", "local")

        async def see_off() -> None:
            await program.answered.wait()
            await program.stopped_reading()
            await drain(stream, DRAIN, DRAIN)
            group.cancel()

        try:
            async with Group() as group:
                group.start_soon(see_off())
                how = await conversation.relay(program, stream)
                group.cancel()
            if program.answered.is_set():
                program.close()
                code = await program.ended()
                finished(code)
                how = how._replace(words=f"{how.words}, exit code {code}")
        finally:
            await program.end(observe)
        return how

    return handle


def _environment(stream: Connection) -> dict[str, str]:
    """Our environment, and the addresses of both ends of the connection, except for those of unix sockets."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    for side, end in (("PEER", stream.peer), ("LOCAL", stream.local)):
        if end.host is not None:
            environment[f"NETKIT_{side}_HOST"] = end.host
            environment[f"NETKIT_{side}_PORT"] = str(end.port)
    return environment
