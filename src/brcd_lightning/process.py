"""How a command's process ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """Ends this process: threads are waited for, what `atexit` holds is run, what was printed is flushed; no more.

    The interpreter's own end goes on to take everything apart. Once torch and Lightning are loaded, that is about two
    seconds of looking through a million objects whose memory the system takes back anyway.

    Args:
        code: exit code; 1 instead of 0 where the last of the output cannot be written.
    """
    threading._shutdown()  # as the interpreter does, in its order
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # a reader that has left, or a full disk
        code = code or 1
    os._exit(code)
