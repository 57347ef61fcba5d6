"""The engine's threads and forks.

After a fork the engine's thread pool is gone in the child. Told so in time the engine works on one thread there;
otherwise it prints a warning for every child. What the user set in the environment is left alone.
"""

from __future__ import annotations

import os

_VARIABLE = "TOKENIZERS_PARALLELISM"


def keep_forks_quiet() -> None:
    """From now on, children of this process tokenize on one thread, without a warning."""
    if not hasattr(os, "register_at_fork"):
        return  # no forks on this system
    forks = 0
    ours = False

    def before() -> None:
        nonlocal forks, ours
        if forks == 0 and _VARIABLE not in os.environ:
            os.environ[_VARIABLE] = "false"
            ours = True
        forks += 1

    def after_in_parent() -> None:
        nonlocal forks, ours
        forks -= 1
        if forks == 0 and ours:
            os.environ.pop(_VARIABLE, None)
            ours = False

    def after_in_child() -> None:
        nonlocal forks, ours
        forks, ours = 0, False

    os.register_at_fork(before=before, after_in_parent=after_in_parent, after_in_child=after_in_child)
