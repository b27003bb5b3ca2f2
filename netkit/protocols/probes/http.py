"""The probe of http and https URLs: ready if the response has a good status, and the body matches --expect."""

from collections.abc import Sequence

from netkit import __version__
from netkit.core.search import WINDOW, Pattern
from netkit.core.stream import Connection
from netkit.protocols.dialogue import NotReady
from netkit.protocols.http import Exchange, Request, told
from netkit.protocols.url import Url


async def http(
    stream: Connection,
    url: Url,
    fields: Sequence[tuple[str, bytes]],
    statuses: Sequence[int],
    expect: Pattern | None,
) -> str:
    """Get ``url``, with ``fields`` added to ours or replacing them (see ``told``); return the status line.

    The status must be one of ``statuses``, or 2xx or 3xx if that is empty, and the body must match ``expect``, if any.
    Redirects are not followed. Raises NotReady, and Failure for a response that is malformed or ends early.
    """
    ours = {
        "Host": url.authority,
        "User-Agent": f"netkit/{__version__}",
        "Accept": "*/*",
        "Connection": "close",
        "Authorization": url.authorization or "",
    }
    exchange = Exchange(stream, Request("GET", url.target, told(ours, fields)), str(url))
    await exchange.ask()
    head = await exchange.head()
    good = head.status in statuses if statuses else 200 <= head.status < 400
    if not good:
        raise NotReady(head.status_line)
    if expect is not None:
        body = b""
        while expect.search(body) is None:
            data = await exchange.recv()
            if not data:
                raise NotReady(f"{head.status_line}, and nothing in its body matches --expect")
            body = (body + data)[-WINDOW:]
    return head.status_line
