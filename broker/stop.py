"""The end that SIGTERM and SIGINT ask for."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

log = logging.getLogger("broker.stop")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Calls `act` at the first signal; a second one ends the process at once, also in a model that does not return.

    Until it is given another, `act` interrupts whatever is being loaded by a KeyboardInterrupt. A model's own code may
    catch that, or make something else of it: `has_interrupted` tells.
    """

    def __init__(self) -> None:
        self.act: Callable[[], None] = self._interrupt
        self.has_interrupted = False
        for number in _SIGNALS:
            signal.signal(number, self._heed)

    def _heed(self, number: int, _frame: object) -> None:
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self.act()

    def _interrupt(self) -> None:
        self.has_interrupted = True
        raise KeyboardInterrupt
