"""A Zstandard decompression stream that, unlike the library's own reader, detects a truncated file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from genus.errors import GenusError

if TYPE_CHECKING:
    from typing import BinaryIO

READ_BYTES = 1 << 17


class ZstdFile(io.RawIOBase):
    """The decompressed bytes of a Zstandard file of one or more frames.

    Raises:
        GenusError: the `zstandard` library is missing.
        EOFError: the file ends inside a frame.
        OSError: the file is damaged.
    """

    def __init__(self, packed: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError:
            raise GenusError(f"{packed.name}: reading .zst needs another library: pip install 'genus[data]'") from None
        self._library = zstandard
        self._packed = packed
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._input = b""
        self._output = b""

    def readable(self) -> bool:
        """Return true, as `io.BufferedReader` requires."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read decompressed bytes into the buffer and return their number, 0 at the end of the file."""
        while not self._output:
            self._input = self._input or self._packed.read(READ_BYTES)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("it ends inside a frame")
                return 0
            self._decompress()
        size = min(len(buffer), len(self._output))
        buffer[:size], self._output = self._output[:size], self._output[size:]
        return size

    def _decompress(self) -> None:
        frame = self._frame or self._library.ZstdDecompressor().decompressobj()
        try:
            self._output = frame.decompress(self._input)
        except self._library.ZstdError as error:
            raise OSError(str(error)) from None
        self._frame, self._input = (None, frame.unused_data) if frame.eof else (frame, b"")
