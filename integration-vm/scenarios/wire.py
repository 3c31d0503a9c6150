"""The other end of the wire on which the guest's passed-through network card is: a card that the virtual host keeps."""

import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import vmm

HERE, THERE = "10.9.0.1", "10.9.0.2"
ECHO_PORT = 7   # integration-vm/guest/net


class Wire:
    """One TCP connection through the card; what is sent comes back unchanged, for as long as it is open."""

    def __init__(self):
        address = os.environ["CPRSHARP_E1000E"].split()[1]
        card = next(Path("/sys/bus/pci/devices", address, "net").iterdir()).name
        subprocess.run(["ip", "address", "add", f"{HERE}/24", "dev", card], check=True)
        subprocess.run(["ip", "link", "set", card, "up"], check=True)

    def open(self, guest):
        answer = guest.ask(f"net {THERE}/24", r"net (failed.*|\w+ [\d./]+)\r?$")
        vmm.require("failed" not in answer[0], answer[0].strip())
        self.connection = self.connect()
        self.bytes, self.longest, self.trouble, self.ending = 0, 0.0, None, threading.Event()
        self.thread = threading.Thread(target=self.go_on, daemon=True)
        self.thread.start()

    @staticmethod
    def connect():
        deadline = time.monotonic() + 60   # the card's link comes up late
        while True:
            try:
                return socket.create_connection((THERE, ECHO_PORT), timeout=60)
            except OSError:
                if time.monotonic() > deadline:
                    raise

    def go_on(self):
        try:
            while not self.ending.is_set():
                sent, back, started = os.urandom(4096), b"", time.monotonic()
                self.connection.sendall(sent)
                while len(back) < len(sent):
                    more = self.connection.recv(65536)
                    vmm.require(more, "the guest closed the connection")
                    back += more
                vmm.require(back == sent, "what came back over the network is not what was sent")
                self.bytes += len(sent)
                self.longest = max(self.longest, time.monotonic() - started)
        except (OSError, vmm.Failed) as e:
            self.trouble = e

    def went_on(self, before):
        """Waits until more has come back than before; returns how much that is by then."""
        deadline = time.monotonic() + 60
        while self.bytes <= before:
            vmm.require(self.trouble is None, f"the connection through the passed-through card: {self.trouble}")
            vmm.require(time.monotonic() < deadline, "nothing comes through the passed-through card any more", vmm.Lost)
            time.sleep(0.05)
        return self.bytes

    def close(self):
        self.ending.set()
        self.thread.join(60)
        self.connection.close()
        vmm.require(self.trouble is None, f"the connection through the passed-through card: {self.trouble}")
        print(f"wire: {self.bytes >> 10} KiB there and back on one connection, the longest 4 KiB took {self.longest * 1000:.0f} ms", flush=True)
