"""Streaming decompression of HTTP bodies: the content codings gzip and deflate (RFC 9110, section 8.4.1)."""

import zlib

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import checkpoint
from netkit.core.layer import Wrapped
from netkit.core.stream import LARGEST_READ, Connection, Counts

ACCEPTED = "gzip, deflate"
_GZIP, _DEFLATE = ("gzip", "x-gzip"), "deflate"
_MAX_CODINGS = 4  # applied one after the other; hardly any server uses more than one
# The wbits of zlib: a gzip member, a zlib stream, and one without its header, which some servers call deflate too.
_MEMBER, _ZLIB, _BARE = 31, 15, -15


def decoded(body: Connection, codings: str | None) -> Connection:
    """Return a stream with the decoded body; ``codings`` is the value of Content-Encoding, or None.

    Raises Failure PROTOCOL for codings other than ``ACCEPTED``. ``recv`` raises Failure PROTOCOL for malformed data,
    and PARTIAL if it ends early.
    """
    names = [name for word in (codings or "").split(",") if (name := word.strip().lower()) not in ("", "identity")]
    unknown = [name for name in names if name not in (*_GZIP, _DEFLATE)]
    if unknown or len(names) > _MAX_CODINGS:
        reason = f"it is encoded by {unknown[0]}, not asked for" if unknown else f"it is encoded {len(names)} times"
        raise Failure(Exit.PROTOCOL, f"decompress {body.name}", reason)
    for name in reversed(names):
        body = _Decoded(body, name)
    return body


class _Decoded(Wrapped):
    """Removes one coding from a body. Its counts are of decoded bytes."""

    def __init__(self, body: Connection, coding: str) -> None:
        super().__init__(body)
        self.counts = Counts()
        self._coding = coding
        self._decoder: zlib._Decompress | None = None  # of the stream or gzip member that is being decoded
        self._coded = b""  # received, and still to be decoded
        self._begun = self._full = False  # ``_full``: the decoder may have more output of its input so far

    async def recv(self) -> bytes:
        data = b""
        while not data:
            await checkpoint()  # decoding a body of 1000:1 must not block other tasks
            if not (self._coded or self._full):
                self._coded = await super().recv()
                if not self._coded:
                    self._check_end()
                    return b""
            data = self._undo()
        self.counts.add_received(len(data))
        return data

    def _undo(self) -> bytes:
        try:
            if self._decoder is None:
                self._decoder = self._begin()
            data = self._decoder.decompress(self._coded, LARGEST_READ)
        except zlib.error as error:
            *_, reason = str(error).split(": ")
            raise self._failure(Exit.PROTOCOL, f"its {self._coding} is malformed", reason) from error
        self._full = len(data) == LARGEST_READ
        self._coded = self._decoder.unconsumed_tail
        if self._decoder.eof:
            self._coded, self._decoder, self._full = self._decoder.unused_data, None, False
        return data

    def _begin(self) -> "zlib._Decompress":
        """A new decoder. Only gzip may have more than one member, one after the other (RFC 1952)."""
        if self._coding in _GZIP:
            self._begun = True
            return zlib.decompressobj(_MEMBER)
        if self._begun:
            raise self._failure(Exit.PROTOCOL, f"more follows the end of its {self._coding}")
        self._begun = True
        # The low bits of a zlib stream's first byte are 8: RFC 1950, section 2.2. A bare deflate block rarely has that.
        return zlib.decompressobj(_ZLIB if self._coded[0] & 0x0F == 8 else _BARE)

    def _check_end(self) -> None:
        if self._decoder is not None:
            raise self._failure(Exit.PARTIAL, f"its {self._coding} ended early", f"after {self.counts.received} bytes")

    def _failure(self, exit: Exit, reason: str, detail: str = "") -> Failure:
        return Failure(exit, f"decompress {self.name}", reason, detail=detail)
