"""Runs scripts that die: a process that has imported torch forks one for each, quickly.

As a program it reads a line of JSON a run and answers with one: see `Crashing.run`. A run is killed
before the nth thing that it does to a file (opens it for writing, syncs, renames or removes it), or
after some seconds, in both cases by SIGKILL, which nothing can catch.
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
    """A process that forks; use it in a `with`."""

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
        """{"code": exit status, negative for a signal, "events", "out"} of a run in `folder`.

        event: it gets the signal `number` before the nth of its dealings with files. seconds: it
        is killed after so many.
        """
        asked = {"folder": str(folder), "script": script, "flags": list(map(str, flags))}
        asked |= {"event": event, "seconds": seconds, "number": int(number)}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def _serve():
    for name in SCRIPTS:
        importlib.import_module(name)
    importlib.import_module("utils.plots.saving").png_bytes = lambda figure, **_: b"drawn"
    for line in sys.stdin:
        asked = json.loads(line)
        out, end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(out)
            _work(end, **asked)
        os.close(end)
        timer = threading.Timer(asked["seconds"] or 300, os.kill, (child, signal.SIGKILL))
        timer.start()
        with open(out) as stream:
            said = stream.read()
        _, status = os.waitpid(child, 0)
        timer.cancel()
        events = said.rpartition("events: ")[2]
        answer = {"code": os.waitstatus_to_exitcode(status), "out": said}
        answer["events"] = int(events) if "events: " in said else None
        print(json.dumps(answer), flush=True)


def _work(end, folder, script, flags, event, seconds, number):
    code = 1
    with contextlib.suppress(BaseException):
        os.dup2(end, 1)
        os.dup2(end, 2)
        os.chdir(folder)
        sys.argv = [f"{script}.py", *flags]
        counted = _count(event, number)
        try:
            from utils.runtime.errors import run_script

            run_script(importlib.import_module(script).main)
            code = 0
        except SystemExit as end_of_script:
            code = end_of_script.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
        print(f"events: {counted[0]}", flush=True)
    os._exit(code)


def _count(event, number):
    """A list of the number of things done to files in the current folder; a signal at the nth."""
    counted, here = [0], str(Path.cwd())

    def happens():
        counted[0] += 1
        if counted[0] == event:
            os.kill(os.getpid(), number)

    def hook(name, arguments):
        if name not in AUDITED:
            return
        if name == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
            return
        if isinstance(arguments[0], int) or not os.path.abspath(arguments[0]).startswith(here):
            return
        happens()

    sync = os.fsync

    def counted_sync(descriptor):
        happens()
        sync(descriptor)

    os.fsync = counted_sync
    sys.addaudithook(hook)
    return counted


if __name__ == "__main__":
    _serve()
