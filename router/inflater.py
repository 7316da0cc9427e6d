"""Packed answers (`content-encoding`), unpacked piece by piece: a bomb costs its sender's patience, not our memory."""

from __future__ import annotations

import zlib
from contextlib import suppress

from router.connection import Broken, Connection

# Unpacked at a time, however little was sent for it.
_PIECE_BYTES = 256 * 1024
_HEADER_BYTES = 2


class Inflater:
    """One answer's unpacking."""

    def __init__(self, encoding: str) -> None:
        """`encoding`: the header's value. Raises `Broken` at `next` for what we did not ask for and cannot read."""
        self._encoding = encoding.strip().lower()
        self._packed = b""
        self._object: zlib._Decompress | None = None

    async def next(self, connection: Connection) -> bytes:
        """The next unpacked bytes; b"" at the end. Raises `Broken` (cut, damaged, another encoding), and `Silence`."""
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise Broken("a content-encoding that was not asked for")  # not by its name, which may quote a key
        while True:
            if self._object is not None and self._packed:
                await connection.turn()  # nothing of this waits for the network: the loop would stand still
            else:
                came = await connection.next()
                if not came:
                    return self._end()
                self._packed += came
                if self._object is None:
                    if len(self._packed) < _HEADER_BYTES:
                        continue
                    self._object = zlib.decompressobj(_window_bits(self._encoding, self._packed))
            data = self._unpack(self._object)
            if data:
                return data

    def _unpack(self, opened: zlib._Decompress) -> bytes:
        if opened.eof:  # gzip allows several members in a row; no server sends them, a bomb may
            raise Broken("data behind the end of the packed data")
        try:
            data = opened.decompress(self._packed, _PIECE_BYTES)
        except zlib.error:
            raise Broken("damaged packed data") from None
        self._packed = opened.unused_data if opened.eof else opened.unconsumed_tail
        return data

    def _end(self) -> bytes:
        opened = self._object
        if opened is None and not self._packed:
            return b""  # no body, and nothing to unpack
        data = b""
        if opened is not None and not opened.eof:
            with suppress(zlib.error):  # without a checksum behind it, the last of what was unpacked can be inside yet
                data = opened.flush()
        if opened is None or not opened.eof:
            raise Broken("packed data that ends too early")
        return data


def _window_bits(encoding: str, start: bytes) -> int:
    """What zlib is told: gzip and zlib it knows by themselves, "deflate" without its wrapper has no mark of its own."""
    is_wrapped = start[0] & 15 == zlib.DEFLATED and int.from_bytes(start[:2], "big") % 31 == 0  # RFC 1950, 2.2
    return -zlib.MAX_WBITS if encoding == "deflate" and not is_wrapped else zlib.MAX_WBITS | 32
