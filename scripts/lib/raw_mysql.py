"""A MySQL client of the fewest lines: logs in with mysql_native_password, sends text queries and
throws the rows away. The benchmark uses it where a real driver would be the slowest part."""

import hashlib
import socket
import struct

CAPABILITIES = 0x0000_0200 | 0x0000_8000 | 0x0008_0000 | 0x0000_0001
"""PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, LONG_PASSWORD: no DEPRECATE_EOF."""


class ServerError(Exception):
    """An ERR packet."""


class Connection:
    """One logged-in connection, to a port of loopback or the path of a Unix socket; `more` are further
    capabilities that its client says it has."""

    def __init__(self, where, user, password, timeout=30, source="127.0.0.1", more=0, collation=45):
        if isinstance(where, int):
            self.socket = socket.create_connection(("127.0.0.1", where), timeout, (source, 0))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(str(where))
        self.buffer = b""
        self._login(user, password, CAPABILITIES | more, collation)

    def close(self):
        """Closes without a word, as a client that is killed does."""
        self.socket.close()

    def query(self, sql):
        """Runs a statement with one result set; the number of payload bytes of its rows."""
        self._send(0, b"\x03" + sql.encode())
        reader = self.socket.makefile("rb", buffering=1 << 20)
        length, first = self._packet(reader)
        if first[:1] == b"\xff":
            raise ServerError(first[3:200].decode(errors="replace"))
        size, ends = 0, 0
        while ends < 2:
            length, first = self._packet(reader)
            if length < 9 and first[:1] == b"\xfe":
                ends += 1
            elif first[:1] == b"\xff":
                raise ServerError(first[3:200].decode(errors="replace"))
            elif ends == 1:
                size += length
        return size

    def _packet(self, reader):
        """Length and first bytes of the next packet; the rest is read and dropped."""
        self.buffer = self.buffer or bytearray(256 * 1024)
        header = reader.read(4)
        if len(header) < 4:
            raise ConnectionError("the connection ended inside an answer")
        length = int.from_bytes(header[:3], "little")
        view, left = memoryview(self.buffer), length
        first = b""
        while left:
            count = reader.readinto(view[:min(left, len(self.buffer))])
            if not count:
                raise ConnectionError("the connection ended inside an answer")
            first = first or bytes(view[:min(count, 200)])
            left -= count
        return length, first

    def _receive(self):
        header = self._exactly(4)
        return header[3], self._exactly(int.from_bytes(header[:3], "little"))

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the connection ended")
            data += part
        return data

    def _send(self, sequence, payload):
        self.socket.sendall(len(payload).to_bytes(3, "little") + bytes([sequence]) + payload)

    def _login(self, user, password, capabilities, collation):
        sequence, greeting = self._receive()
        if greeting[:1] == b"\xff":
            raise ServerError(greeting[3:].decode(errors="replace"))
        rest = greeting[greeting.index(b"\0", 1) + 1:]
        nonce = rest[4:12] + rest[31:43]
        answer = native_answer(password, nonce)
        self._send(sequence + 1, struct.pack("<IIB23x", capabilities, 1 << 24, collation) + user.encode()
                   + b"\0" + bytes([len(answer)]) + answer + b"mysql_native_password\0")
        sequence, reply = self._receive()
        if reply[:1] == b"\xfe":
            plugin, _, data = reply[1:].partition(b"\0")
            if plugin != b"mysql_native_password":
                raise ServerError(f"the server wants {plugin.decode()}")
            self._send(sequence + 1, native_answer(password, data[:20]))
            sequence, reply = self._receive()
        if reply[:1] != b"\0":
            raise ServerError(reply[3:].decode(errors="replace"))


def native_answer(password, nonce):
    """SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password)))."""
    if not password:
        return b""
    stage1 = hashlib.sha1(password.encode()).digest()
    stage2 = hashlib.sha1(nonce + hashlib.sha1(stage1).digest()).digest()
    return bytes(a ^ b for a, b in zip(stage1, stage2))
