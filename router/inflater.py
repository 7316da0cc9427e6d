"""Packed answers (`content-encoding`), unpacked piece by piece: a bomb costs its sender's patience, not our memory."""

from __future__ import annotations

import zlib

from router.connection import Broken, Connection

# Unpacked at a time, however little was sent for it.
_PIECE_BYTES = 256 * 1024


class Inflater:
    """One answer's unpacking."""

    def __init__(self, encoding: str) -> None:
        """`encoding`: the header's value. Raises `Broken` at `next` for what we did not ask for and cannot read."""
        self._encoding = encoding.strip().lower()
        self._packed = b""
        self._object = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by its first bytes
        self._began = False

    async def next(self, connection: Connection) -> bytes:
        """The next unpacked bytes; b"" at the end. Raises `Broken` (cut, damaged, another encoding)."""
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise Broken(f"content-encoding {self._encoding[:30]!r}")
        while True:
            if not self._packed:
                self._packed = await connection.next()
                if not self._packed:
                    if self._began and not self._object.eof:
                        raise Broken("packed data that ends too early")
                    return b""
            data = self._unpack()
            if data:
                return data

    def _unpack(self) -> bytes:
        if self._object.eof:  # gzip allows several members in a row; no server sends them, a bomb may
            raise Broken("data behind the end of the packed data")
        packed = self._packed
        try:
            data = self._object.decompress(packed, _PIECE_BYTES)
        except zlib.error:
            if self._began or self._encoding != "deflate":
                raise Broken("damaged packed data") from None
            self._object = zlib.decompressobj(-zlib.MAX_WBITS)  # "deflate" without its wrapper, as old servers send it
            try:
                data = self._object.decompress(packed, _PIECE_BYTES)
            except zlib.error:
                raise Broken("damaged packed data") from None
        self._began = True
        self._packed = self._object.unused_data if self._object.eof else self._object.unconsumed_tail
        return data
