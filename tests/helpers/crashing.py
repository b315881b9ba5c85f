"""Run scripts and kill them: a server process that has imported torch forks one process per run.

Run as a program, it reads one line of JSON per run and writes one; see `Crashing.run`. A run is
killed before its nth file operation (open for writing, sync, rename, remove), or after a number of
seconds, by SIGKILL, which cannot be caught.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.helpers.environment import REPOSITORY, script_environment

AUDITED = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
SCRIPTS = ("main_train", "generate_mask", "main_unlearn", "main_compare", "main_mia")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Crashing:
    """The server process, as a context manager."""

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=script_environment(REPOSITORY),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def run(self, folder, script, *flags, event=None, seconds=None, number=signal.SIGKILL):
        """Run a script in `folder`; return {"code", "events", "out"} of the process.

        "code" is its exit status, negative for a signal, "events" the number of file operations.

        event: send the signal `number` before this file operation, counted from 1. seconds: kill
        the run after this time.
        """
        request = {"folder": str(folder), "script": script, "flags": list(map(str, flags))}
        request |= {"event": event, "seconds": seconds, "number": int(number)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def _serve():
    for name in SCRIPTS:
        importlib.import_module(name)
    importlib.import_module("utils.plots.saving").png_bytes = lambda figure, **_: b"drawn"
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _work(writer, **request)
        os.close(writer)
        timer = threading.Timer(request["seconds"] or 300, os.kill, (child, signal.SIGKILL))
        timer.start()
        with open(reader) as stream:
            output = stream.read()
        _, status = os.waitpid(child, 0)
        timer.cancel()
        events = output.rpartition("events: ")[2]
        result = {"code": os.waitstatus_to_exitcode(status), "out": output}
        result["events"] = int(events) if "events: " in output else None
        print(json.dumps(result), flush=True)


def _work(writer, folder, script, flags, event, seconds, number):
    code = 1
    with contextlib.suppress(BaseException):
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.chdir(folder)
        sys.argv = [f"{script}.py", *flags]
        count = _count_events(event, number)
        try:
            from utils.runtime.errors import run_script

            run_script(importlib.import_module(script).main)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
        print(f"events: {count[0]}", flush=True)
    os._exit(code)


def _count_events(event, number):
    """Return a list whose element counts file operations in the current folder from now on."""
    count, folder = [0], str(Path.cwd())

    def record_event():
        count[0] += 1
        if count[0] == event:
            os.kill(os.getpid(), number)

    def hook(name, arguments):
        if name not in AUDITED:
            return
        if name == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
            return
        if isinstance(arguments[0], int) or not os.path.abspath(arguments[0]).startswith(folder):
            return
        record_event()

    sync = os.fsync

    def counting_sync(descriptor):
        record_event()
        sync(descriptor)

    os.fsync = counting_sync
    sys.addaudithook(hook)
    return count


if __name__ == "__main__":
    _serve()
