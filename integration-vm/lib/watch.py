"""Runs a virtual host to its end, whatever that is: its own, a deadline, silence, a panic."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time

# What a kernel says when something is wrong with it or with a device.
TROUBLE = re.compile(r"DMAR: \[.*[Ff]ault|DMAR: .*(?:Invalidation|timed out)|WARNING: |BUG: |Oops: |blocked for more than|"
                     r"general protection fault|segfault at|Kernel panic|Out of memory: ")
PANIC = re.compile(r"Kernel panic - .*")
# Verdicts that an emulator's fault may have caused, see docs/virtual-host.md: the guest of a scenario is gone, or all of the virtual host.
LOST = re.compile(r"exit status 75\b|Kernel panic|the kernel says: .*(?:BUG: |Oops: |general protection fault)|"
                  r"the virtual host went down|not a word for |not done after ")
LAST_WORDS_S = 10   # after a panic: a kernel whose other processor does not stop never reboots


class Output:
    """The scenario's output: to whoever watches, and to a file."""

    def __init__(self, path, stream):
        self.file = open(path, "wb")
        self.stream = stream

    def write(self, data):
        self.file.write(data)
        self.file.flush()
        self.stream.write(data)
        self.stream.flush()


def run(command, results, stream, deadline_s, silence_s):
    """Returns None if QEMU ended by itself, else why it was ended."""
    console = results / "console.log"
    output = Output(results / "output.log", stream)
    end = time.monotonic() + deadline_s
    with open(results / "qemu.log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            heard, said = time.monotonic(), 0
            while True:
                if selector.select(timeout=1):
                    data = os.read(process.stdout.fileno(), 65536)
                    if not data:
                        break
                    output.write(data)
                    heard = time.monotonic()
                if (size := size_of(console)) != said:
                    heard, said = time.monotonic(), size
                    if PANIC.search(text(console)):
                        end = min(end, heard + LAST_WORDS_S)
                if time.monotonic() > end:
                    return f"not done after {deadline_s} s"
                if time.monotonic() > heard + silence_s:
                    return f"not a word for {silence_s} s"
        process.wait(10)
        return None
    except subprocess.TimeoutExpired:
        return "QEMU closed its output and did not end"
    finally:
        process.kill()   # its own child, not yet waited for: nobody else can have its number
        process.wait()
        output.file.close()


def size_of(path):
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def verdict(results, ended, may_say):
    """Empty if all is well, else what is not; after run."""
    console = text(results / "console.log")
    if panic := PANIC.search(console):
        return panic[0].strip()
    if ended:
        return ended
    status = text(results / "share/status").strip()
    if not status:
        last = text(results / "qemu.log").strip().splitlines()[-1:]
        return "the virtual host went down before the scenario ended" + "".join(f" ({line})" for line in last)
    if status != "0":
        killed = f" ({signal.Signals(int(status) - 128).name})" if int(status) in range(129, 160) else ""
        reasons = re.findall(r"^FAILED: (.*)", text(results / "output.log"), re.MULTILINE)
        return f"exit status {status}{killed}" + "".join(f": {reason.strip()[:500]}" for reason in reasons[-1:])
    troubles = [line for line in console.splitlines()
                if TROUBLE.search(line) and not any(re.search(allowed, line) for allowed in may_say)]
    return f"the kernel says: {troubles[0].strip()}" + f" (and {len(troubles) - 1} more)" * (len(troubles) > 1) if troubles else ""


def text(path):
    return path.read_text(errors="replace") if path.exists() else ""
